"""The record on disk: what is read is what was written, and a kill leaves nothing wrong behind."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ncexp.journal import Journal, column


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def test_journal_reads_what_was_appended_bit_for_bit(journal: Journal) -> None:
    record = {"epoch": 3, "train/nc1_trace": 0.1 + 0.2, "tiny": 5e-324, "undefined": math.nan, "large": -math.inf}
    journal.append(record)
    (read,) = journal.read()
    assert math.isnan(read.pop("undefined"))
    assert read == {key: value for key, value in record.items() if key != "undefined"}


def test_journal_ignores_half_a_line(journal: Journal) -> None:
    journal.append({"epoch": 1, "loss": 1.0})
    with journal.path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    assert [record["epoch"] for record in journal.read()] == [1]


def test_journal_rewind_drops_later_and_half_lines_and_keeps_first_times(journal: Journal) -> None:
    for epoch in (1, 2, 3):
        journal.append({"epoch": epoch, "loss": 1.0 / epoch})
    before = journal.timestamps()
    with journal.path.open("a") as file:
        file.write('{"epoch"')
    journal.rewind(2)
    journal.append({"epoch": 3, "loss": 1.0 / 3})
    assert [record["epoch"] for record in journal.read()] == [1, 2, 3]
    assert journal.timestamps() == before
    assert journal.clock_path.read_text().count("\n") == 3


def test_journal_rewind_of_a_run_without_lines_is_empty(journal: Journal) -> None:
    journal.rewind(0)
    assert journal.read() == []


def test_column_is_nan_where_a_record_lacks_the_quantity() -> None:
    values = column([{"epoch": 1, "a": 2.0}, {"epoch": 2}], "a")
    assert values[0] == 2.0
    assert math.isnan(values[1])
