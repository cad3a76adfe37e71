"""What a run came to: the numbers of its first, zero-error and last evaluated epoch."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from ncexp.measure.quantities import Quantity, find, shown
from ncexp.record import Record, SavedRun

#: Three ways to decide on the same features, each with its error on test.
CLASSIFIERS = {
    "network": "test/error",
    "least-squares layer": "test/decisions/least_squares_error",
    "nearest class mean": "test/decisions/nearest_class_center_error",
}


def print_summary(console: Console, run: SavedRun) -> None:
    """Two tables: the catalogue's summary at three epochs, and the test errors of three classifiers side by side."""
    zero = None if run.zero_error_epoch is None else record_at(run, run.zero_error_epoch)
    epochs = {"first epoch": run.records[0], "zero error": zero, "last epoch": run.records[-1]}
    heads = {f"{head} ({one['epoch']:.0f})" if one else f"{head} (none)": one for head, one in epochs.items()}
    console.print(_quantities(heads, run.records[-1]))
    if CLASSIFIERS["network"] in run.records[-1]:
        console.print(_errors(heads))
    for line in describe_doubts(run):
        console.print(line, soft_wrap=True, markup=False)


def describe_doubts(run: SavedRun) -> list[str]:
    """A line for each split whose decomposition is not to be relied on: at how many epochs, and why at the last."""
    lines = []
    for split in sorted({split for _, split in run.doubts}):
        epochs = [epoch for epoch, one in run.doubts if one == split]
        why = run.doubts[epochs[-1], split]
        lines.append(f"in doubt: {split}/mse and {split}/path at {len(epochs)} epochs; at {epochs[-1]} {why}")
    return lines


def record_at(run: SavedRun, epoch: int) -> Record | None:
    """The record of an evaluated epoch; None where it was not evaluated."""
    return next((record for record in run.records if record["epoch"] == epoch), None)


def row_label(name: str, row: Quantity) -> str:
    """What a table of one run calls a number, short enough for 80 columns; train is named for loss and error alone."""
    return row.short if name.startswith("train/") and "/" in row.name else f"{name.partition('/')[0]} {row.short}"


def number(value: float, row: Quantity | None) -> str:
    """Three digits, or a share in percent; an undefined value in words."""
    if math.isnan(value):
        return "undefined"
    return f"{value:.2%}" if row is not None and row.scale == "percent" else f"{value:.3g}"


def _quantities(heads: dict[str, Record | None], last: Record) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("on train features", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    for name, row in shown("summary"):
        if name in last:
            table.add_row(row_label(name, row), *(_entry(record, name) for record in heads.values()))
    return table


def _errors(heads: dict[str, Record | None]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("test error of", no_wrap=True)
    for classifier in CLASSIFIERS:
        table.add_column(classifier, justify="right")
    for head, record in heads.items():
        table.add_row(head, *(_entry(record, name) for name in CLASSIFIERS.values()))
    return table


def _entry(record: Record | None, name: str) -> str:
    return "–" if record is None or name not in record else number(record[name], find(name))
