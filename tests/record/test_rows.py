"""The rows of a training: what its checkpoints hold of them, and the journals that are written from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import TRAINING

from ncexp.record import RunDirectory
from ncexp.record import rows as module
from ncexp.record.rows import PREFIX, TrainingRows

PLACE = "training.jsonl"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / f"run_{TRAINING}")


def add(rows: TrainingRows, epochs: range) -> None:
    for epoch in epochs:
        rows.add(PLACE, {"epoch": epoch, "fit/loss": 1 / epoch})


def restored(directory: RunDirectory, through: int, rows: TrainingRows) -> TrainingRows:
    """What another process takes up from this one's file to resume from."""
    again = TrainingRows(directory)
    assert again.restore([PLACE], through, rows.tensors(), rows.counted) == []
    return again


def test_rows_of_every_part_and_the_tail_are_one_journal(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = TrainingRows(directory)
    add(rows, range(1, 6))
    whole = bytes(rows.tensors()[PREFIX + PLACE].numpy())
    monkeypatch.setattr(module, "LARGEST_TAIL", 20)
    assert rows.tensors() == {}  # they are in a part now
    add(rows, range(6, 7))
    rows.write_journals()
    add(rows, range(7, 8))
    rows.write_journals(last=True)
    assert directory.training.path.read_bytes().startswith(whole)
    assert directory.training.epochs() == {*range(1, 8)}
    again = restored(directory, 6, rows)
    again.write_journals()
    assert directory.training.epochs() == {*range(1, 7)}  # 7 is computed again


def test_journal_that_another_process_changed_is_written_whole(directory: RunDirectory) -> None:
    rows = TrainingRows(directory)
    for epoch, change in enumerate((b"", b"garbage", None), start=1):
        add(rows, range(epoch, epoch + 1))
        rows.write_journals()
        assert directory.training.epochs() == {*range(1, epoch + 1)}
        directory.training.path.unlink() if change is None else directory.training.path.write_bytes(change)
    rows.write_journals(last=True)
    assert directory.training.epochs() == {1, 2, 3}


def test_rows_that_are_all_lost_are_counted_and_stop_no_commit(directory: RunDirectory) -> None:
    rows = TrainingRows(directory)
    assert rows.restore([PLACE], 3, {}, {PLACE: 3}) == []
    assert rows.tensors() == {}  # a stop before the next epoch ends commits as well
    rows.write_journals()
    assert rows.lacking() == "training.jsonl has 0 of 3 rows"
    add(rows, range(4, 5))
    assert (rows.counted, rows.lacking()) == ({PLACE: 4}, "training.jsonl has 1 of 4 rows")
