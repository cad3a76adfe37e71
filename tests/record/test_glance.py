"""A run at a glance says what the whole record says, from the ends of its files."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from synthetic_sweep import RATES, curves, write_journals, write_run

from ncexp.record import DamagedFile, Journal, RunDirectory, State, find_runs, read_run, select
from ncexp.record import journal as journals
from ncexp.record.glance import glance_at_runs
from ncexp.record.rows import count_rows


def test_glance_agrees_with_the_whole_record(tmp_path: Path) -> None:
    for place, state in enumerate((State.COMPLETED, State.DIVERGED, State.FAILED, State.INTERRUPTED)):
        write_run(tmp_path, rate=RATES[place], state=state, seed=place)
    runs, faults = glance_at_runs([tmp_path])
    assert faults == []
    for run, whole in zip(runs, map(read_run, find_runs([tmp_path])), strict=True):
        assert (run.path, run.state, run.parameters) == (whole.path, whole.state, whole.parameters)
        assert run.epoch == (whole.training[-1]["epoch"] if whole.training else None)
        last = whole.records[-1] if whole.records else {}
        assert run.record.items() <= last.items()
        assert (run.error, run.nc1) == (last.get("test/error"), last.get("train/collapse/nc1_trace")) or not last
    assert len({run.state for run in runs}) == 4
    assert [run.parameters["seed"] for run in select(runs, {"seed": "2"})] == [2]


def test_nc1_of_an_earlier_epoch_is_not_shown_beside_a_later_error(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    (collapse,) = path.glob("measurements/collapse_*.jsonl")
    *lines, _ = collapse.read_text().splitlines(keepends=True)
    collapse.write_text("".join(lines))
    ((run,), _) = glance_at_runs([path])
    assert run.error == read_run(path).records[-1]["test/error"]
    assert math.isnan(run.nc1)


def test_journals_that_end_too_early_are_damaged(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    status = json.loads((path / "status.json").read_text())
    counted = count_rows(RunDirectory(path))
    (path / "status.json").write_text(json.dumps({**status, "record": counted}))
    assert glance_at_runs([path])[0][0].state is State.COMPLETED
    lines = (path / "training.jsonl").read_text().splitlines(keepends=True)
    (path / "training.jsonl").write_text("".join(lines[:-2]))
    assert glance_at_runs([path])[0][0].state is State.DAMAGED
    assert read_run(path).state is State.DAMAGED


@pytest.mark.parametrize(
    "file", ["status.json", "facts.json", "config.yaml", "training.jsonl", "measurements/e*.jsonl"]
)
def test_damaged_run_is_named_and_the_others_are_shown(tmp_path: Path, file: str) -> None:
    sound, other = write_run(tmp_path), write_run(tmp_path, seed=1)
    (path,) = other.glob(file)
    path.write_bytes(path.read_bytes() + b"\x00nonsense\n")
    runs, faults = glance_at_runs([tmp_path])
    assert [run.path for run in runs] == [sound]
    assert [str(path) in fault for fault in faults] == [True]


def test_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected run directories, got none"):
        glance_at_runs([tmp_path])


def test_last_line_of_a_long_journal_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path)
    write_journals(path, list(curves(0.02, 0, 1.0)))
    journal = Journal(path / "training.jsonl")
    whole = journal.read()
    monkeypatch.setattr(journals, "LONGEST_END", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "read", lambda _: pytest.fail("all of it was read"))
        assert journal.last() == whole[-1]
    monkeypatch.setattr(journals, "LONGEST_END", 10)
    assert journal.last() == whole[-1]  # which is longer
    assert Journal(tmp_path / "none.jsonl").last() is None


def test_half_a_line_is_left_out_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    journal.write([{"epoch": 1, "a": math.nan}, {"epoch": 2, "a": math.inf}])
    with journal.path.open("a") as file:
        file.write('{"epoch": 3, "a"')
    assert journal.last() == {"epoch": 2, "a": math.inf}
    with journal.path.open("a") as file:
        file.write("\n")
    with pytest.raises(DamagedFile, match=r"a\.jsonl: expected a record with its epoch in the last line"):
        journal.last()


def test_glance_of_a_foreign_training_has_the_last_measured_epoch(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    shutil.move(path / "training.jsonl", tmp_path / "aside")
    ((run,), _) = glance_at_runs([path])
    assert run.epoch == 350
