"""Runs of which only the ends of the journals are read, as `ncexp runs` reads them: they say what whole ones say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from synthetic_sweep import RATES, write_run

from ncexp.record import DamagedFile, Journal, RunDirectory, State, find_runs, read_run, select
from ncexp.record import journal as journals
from ncexp.record.rows import count_rows
from ncexp.record.saved_run import read_runs


def test_ends_of_journals_agree_with_the_whole_record(tmp_path: Path) -> None:
    states = (State.COMPLETED, State.DIVERGED, State.FAILED, State.INTERRUPTED)
    for place, state in enumerate(states):
        write_run(tmp_path, rate=RATES[place], state=state, seed=place)
    (tmp_path / find_runs([tmp_path])[0].name / "training.jsonl").unlink()  # as of another's checkpoints
    runs, faults = read_runs([tmp_path], only_last=True)
    assert faults == []
    for run, path in zip(runs, find_runs([tmp_path]), strict=True):
        whole = read_run(path)
        assert (run.path, run.state, run.parameters) == (whole.path, whole.state, whole.parameters)
        assert (run.training, len(run.records)) == (whole.training[-1:], 1)
        assert {"test/error", "train/collapse/nc1_trace"} <= run.records[0].keys()
        assert run.records[0].items() <= whole.records[-1].items()
    assert {run.state for run in runs} == {*states}
    assert [run.parameters["seed"] for run in select(runs, {"seed": "2"})] == [2]


def test_numbers_of_an_earlier_epoch_are_not_shown_beside_later_ones(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    (collapse,) = path.glob("measurements/collapse_*.jsonl")
    collapse.write_text("".join(collapse.read_text().splitlines(keepends=True)[:-1]))
    last = read_run(path, only_last=True).records[-1]
    assert last["test/error"] == read_run(path).records[-1]["test/error"]
    assert "train/collapse/nc1_trace" not in last


def test_journals_that_end_too_early_are_damaged(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**status, "record": count_rows(RunDirectory(path))}))
    assert read_run(path, only_last=True).state is State.COMPLETED
    lines = (path / "training.jsonl").read_text().splitlines(keepends=True)
    (path / "training.jsonl").write_text("".join(lines[:-2]))
    assert read_run(path, only_last=True).state is read_run(path).state is State.DAMAGED


def test_last_line_is_read_from_the_end_and_named_if_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    assert journal.read(only_last=True) == []
    journal.write([{"epoch": 1, "a": math.nan}, {"epoch": 2, "a": math.inf}])
    with journal.path.open("a") as file:
        file.write('{"epoch": 3, "a"')
    last = [{"epoch": 2, "a": math.inf}]
    with monkeypatch.context() as patch:
        patch.setattr(journals, "read_file", lambda *_: pytest.fail("all of it was read"))
        assert journal.read(only_last=True) == last
    for end in (50, 10):  # the line is longer than the latter
        monkeypatch.setattr(journals, "LONGEST_END", end)
        assert journal.read(only_last=True) == last
    with journal.path.open("a") as file:
        file.write("\n")
    with pytest.raises(DamagedFile, match=r"a\.jsonl: expected a record with its epoch in (the last line|line 3)"):
        journal.read(only_last=True)
