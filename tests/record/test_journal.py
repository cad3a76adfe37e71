"""Numbers on disk: what is read is what was written, a kill leaves nothing wrong behind, several may write at once."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest

from ncexp.record import Clock, Journal, RunDirectory, column


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "training.jsonl")


def epochs(journal: Journal) -> list[float]:
    return [record["epoch"] for record in journal.read()]


def test_journal_reads_what_was_written_bit_for_bit(journal: Journal) -> None:
    record = {
        "epoch": 3, "train/collapse/nc1_trace": 0.1 + 0.2, "tiny": 5e-324, "undefined": math.nan, "large": -math.inf
    }  # fmt: skip
    journal.put(record)
    (read,) = journal.read()
    assert math.isnan(read.pop("undefined"))
    assert read == {key: value for key, value in record.items() if key != "undefined"}


def test_journal_is_json_of_any_reader(journal: Journal) -> None:
    """JSON has neither NaN nor Infinity: a strict reader must take every line."""
    journal.put({"epoch": 1, "a": math.nan, "b": math.inf})
    (line,) = journal.path.read_text().splitlines()
    assert json.loads(line, parse_constant=lambda word: pytest.fail(word)) == {"epoch": 1, "a": None, "b": "inf"}


def test_journal_ignores_half_a_line(journal: Journal) -> None:
    journal.put({"epoch": 1, "loss": 1.0})
    with journal.path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    assert epochs(journal) == [1]


def test_journal_of_a_run_is_written_while_the_run_is_locked(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.locked():
        directory.training.put({"epoch": 1, "loss": 1.0})
    assert epochs(directory.training) == [1]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_journal_put_sorts_by_epoch_whatever_comes_first(journal: Journal, order: tuple[int, ...]) -> None:
    for epoch in order:
        journal.put({"epoch": epoch, "loss": 1.0 / epoch})
    ordered = Journal(journal.path.with_name("ordered.jsonl"))
    ordered.write({"epoch": epoch, "loss": 1.0 / epoch} for epoch in (1, 2, 3))
    assert journal.path.read_bytes() == ordered.path.read_bytes()


def test_journal_put_leaves_an_epoch_unless_it_is_to_be_replaced(journal: Journal) -> None:
    for epoch in (1, 2, 3):
        journal.put({"epoch": epoch, "loss": 1.0})
    journal.put({"epoch": 2, "loss": 5.0})
    assert column(journal.read(), "loss") == [1, 1, 1]
    journal.put({"epoch": 2, "loss": 5.0}, replace=True)
    assert column(journal.read(), "loss") == [1, 5, 1]
    assert epochs(journal) == [1, 2, 3]


def test_journal_put_mends_half_a_line(journal: Journal) -> None:
    journal.put({"epoch": 1, "loss": 1.0})
    with journal.path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    journal.put({"epoch": 2, "loss": 0.5})
    assert journal.path.read_text() == '{"epoch": 1, "loss": 1.0}\n{"epoch": 2, "loss": 0.5}\n'


def test_journal_put_by_several_at_once_keeps_every_epoch_once(journal: Journal) -> None:
    def write(first: int) -> None:
        for epoch in range(first, 41, 2):
            Journal(journal.path).put({"epoch": epoch, "loss": 1.0 / epoch})

    threads = [threading.Thread(target=write, args=(first,)) for first in (1, 2, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert epochs(journal) == list(range(1, 41))


@pytest.mark.parametrize(
    "line", ["not JSON", "[1, 2]", '{"loss": 1.0}', '{"epoch": "one"}', '{"epoch": 2}, {"epoch": 3}']
)
def test_journal_names_the_line_that_is_no_record(journal: Journal, line: str) -> None:
    journal.put({"epoch": 1, "loss": 1.0})
    with journal.path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=f"{journal.path}: expected a record with its epoch in line 2, got"):
        journal.read()


def test_clock_keeps_the_first_time_of_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "clock.jsonl"
    clock = Clock(path)
    for epoch in (1, 2, 3):
        clock.note(epoch)
    before = clock.read()
    with path.open("a") as file:
        file.write('{"epoch": 4, "ti')
    again = Clock(path)  # of a process that resumes in epoch 3
    for epoch in (3, 4):
        again.note(epoch)
    assert list(again.read()) == [1, 2, 3, 4]
    assert {epoch: ms for epoch, ms in again.read().items() if epoch < 4} == before
    assert path.read_text().count("\n") == 4


def test_column_is_nan_where_a_record_lacks_the_quantity() -> None:
    values = column([{"epoch": 1, "a": 2.0}, {"epoch": 2}], "a")
    assert values[0] == 2.0
    assert math.isnan(values[1])
