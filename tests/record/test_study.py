"""Optuna's journal as ours writes it, and as strangers may have left one."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution

from ncexp.record import DamagedFile
from ncexp.record.study import load_study, open_storage

SPACE = {"x": FloatDistribution(0, 1)}


def test_half_a_line_of_a_journal_is_cut_before_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = optuna.create_study(storage=open_storage(path), study_name="one")
    study.tell(study.ask(SPACE), 1.0)
    whole = path.read_bytes()
    study.ask(SPACE)
    path.write_bytes(path.read_bytes()[:-7])
    again = load_study(path)
    assert [trial.state.name for trial in again.trials] == ["COMPLETE", "RUNNING"]
    again.tell(1, state=optuna.trial.TrialState.FAIL)
    assert [trial.state.name for trial in load_study(path).trials] == ["COMPLETE", "FAIL"]
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize(
    "content", [b"", b"no JSON\n", b"{}\n", b"[1]\n", b'{"op_code":99,"worker_id":"a"}\n', b"[" * 99999 + b"\n"]
)
def test_file_that_is_no_journal_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.journal"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"study.journal: expected a journal of Optuna, got a damaged file"):
        load_study(path)


def test_pipe_in_place_of_a_journal_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    os.mkfifo(path)
    with pytest.raises(DamagedFile, match="expected a file, got a pipe"):
        load_study(path)
