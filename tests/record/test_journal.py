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


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_journal_reads_what_was_written_bit_for_bit_and_is_json(journal: Journal) -> None:
    """JSON has neither NaN nor Infinity: a strict reader must take every line."""
    record = {"epoch": 3, "sum": 0.1 + 0.2, "tiny": 5e-324, "undefined": math.nan, "large": -math.inf}
    journal.put(record)
    (read,) = journal.read()
    assert {**read, "undefined": None} == {**record, "undefined": None}
    assert math.isnan(read["undefined"])
    strict = json.loads(journal.path.read_text(), parse_constant=lambda word: pytest.fail(word))
    assert strict == {**record, "undefined": None, "large": "-inf"}


def test_journal_ignores_half_a_line_and_put_mends_it(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.locked():  # as a run is while its journals are written
        directory.training.put({"epoch": 1, "loss": 1.0})
        append(directory.training.path, '{"epoch": 2, "lo')
        assert directory.training.epochs() == {1}
        directory.training.put({"epoch": 2, "loss": 0.5})
    assert directory.training.path.read_text() == '{"epoch": 1, "loss": 1.0}\n{"epoch": 2, "loss": 0.5}\n'


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_journal_put_sorts_and_replaces_an_epoch_only_if_told(journal: Journal, order: tuple[int, ...]) -> None:
    for epoch in order:
        journal.put({"epoch": epoch, "loss": 1.0 / epoch})
    ordered = Journal(journal.path.with_name("ordered.jsonl"))
    ordered.write({"epoch": epoch, "loss": 1.0 / epoch} for epoch in (1, 2, 3))
    assert journal.path.read_bytes() == ordered.path.read_bytes()
    journal.put({"epoch": 2, "loss": 5.0})
    assert column(journal.read(), "loss") == [1, 1 / 2, 1 / 3]
    journal.put({"epoch": 2, "loss": 5.0}, replace=True)
    assert column(journal.read(), "loss") == [1, 5, 1 / 3]


def test_journal_put_by_several_at_once_keeps_every_epoch_once(journal: Journal) -> None:
    def write(first: int) -> None:
        for epoch in range(first, 41, 2):
            Journal(journal.path).put({"epoch": epoch, "loss": 1.0 / epoch})

    threads = [threading.Thread(target=write, args=(first,)) for first in (1, 2, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert column(journal.read(), "epoch") == list(range(1, 41))


@pytest.mark.parametrize(
    "line", ["not JSON", "[1, 2]", '{"loss": 1.0}', '{"epoch": "one"}', '{"epoch": 2}, {"epoch": 3}']
)
def test_journal_names_the_line_that_is_no_record(journal: Journal, line: str) -> None:
    journal.put({"epoch": 1, "loss": 1.0})
    append(journal.path, f"{line}\n")
    with pytest.raises(ValueError, match=f"{journal.path}: expected a record with its epoch in line 2, got"):
        journal.read()


def test_clock_keeps_the_first_time_of_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "clock.jsonl"
    clock = Clock(path)
    for epoch in (1, 2, 3):
        clock.note(epoch)
    before = clock.read()
    append(path, '{"epoch": 4, "ti')
    again = Clock(path)  # of a process that resumes in epoch 3
    for epoch in (3, 4):
        again.note(epoch)
    assert list(again.read()) == [1, 2, 3, 4]
    assert again.read().items() >= before.items()
    assert path.read_text().count("\n") == 4


def test_column_is_nan_where_a_record_lacks_the_quantity() -> None:
    first, second = column([{"epoch": 1, "a": 2.0}, {"epoch": 2}], "a")
    assert (first, math.isnan(second)) == (2.0, True)
