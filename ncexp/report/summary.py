"""What a run came to: the numbers of its first, zero-error and last evaluated epoch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ncexp.record import Record, SavedRun
from ncexp.record.quantities import PLACES, Quantity, find, selected

#: Three ways to decide on the same features, each with its error on test.
CLASSIFIERS = {
    "network": "test/error",
    "least-squares layer": "test/decisions/least_squares_error",
    "nearest class mean": "test/decisions/nearest_class_center_error",
}


#: The terms of HPD22 Figure 2 on train features, by their last part.
TERMS = {"L_NC1": "loss_nc1", "L_NC1, data part": "loss_nc1_data", "L_NC2/3": "loss_nc23", "L_LS⊥": "loss_ls_perp"}
ROBUSTNESS = "test/robustness/ratio"
#: How many numbers a measuring prints.
MOST_MEASURED = 30
#: HPD22 Figure 2, read as a number: L_LS⊥ is small beside L_NC1.
SMALL = 0.1


def small_perp_epoch(run: SavedRun, beside: str = "loss_nc1") -> float:
    """The first evaluated epoch from which L_LS⊥ stays below a tenth of L_NC1 (or of another term), on train features.

    nan where it is not below at the last epoch, or was not measured.
    """
    first = math.nan
    for record in reversed([one for one in run.records if "train/mse/loss_ls_perp" in one]):
        if not record["train/mse/loss_ls_perp"] < SMALL * record.get(f"train/mse/{beside}", math.nan):
            break
        first = record["epoch"]
    return first


def rate_of_fall(run: SavedRun, term: str) -> float:
    """p of term ∝ epoch^p from the zero-error epoch to the last: least squares of log term against log epoch.

    term: the last part of its name; over the evaluated epochs at which it is positive. nan where there are not two, or
    zero error was not reached.
    """
    points = [
        (math.log(record["epoch"]), math.log(value))
        for record in run.records
        if record["epoch"] >= (run.zero_error_epoch or math.inf) and (value := record.get(f"train/mse/{term}", 0)) > 0
    ]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else math.nan


def figure_two(run: SavedRun) -> list[str]:
    """HPD22 Figure 2's two claims as numbers, a line each; the fall is from zero error on, where it was reached."""
    if "train/mse/loss_ls_perp" not in run.records[-1]:
        return []
    epochs = [small_perp_epoch(run, TERMS[name]) for name in ("L_NC1", "L_NC1, data part")]
    of_all, of_data = ("never" if math.isnan(epoch) else f"from epoch {epoch:.0f}" for epoch in epochs)
    lines = [f"L_LS⊥     below L_NC1/10 {of_all}, below its data part/10 {of_data}"]
    of_all, of_data, *others = (f"{rate_of_fall(run, term):.2f}" for term in TERMS.values())
    if run.zero_error_epoch is not None:
        rates = f"L_NC1 {of_all} (data {of_data}), L_NC2/3 {others[0]}, L_LS⊥ {others[1]}"
        lines.append(f"fall      as epoch^p: {rates}")
    return lines


def print_summary(console: Console, run: SavedRun) -> None:
    """Two tables: the catalogue's summary at three epochs, and the test errors of three classifiers side by side."""
    heads = _three_epochs(run)
    console.print(_quantities("on train features", heads, [name for name, _ in selected("summary")]))
    for line in figure_two(run):
        console.print(line, soft_wrap=True, markup=False)
    if CLASSIFIERS["network"] in run.records[-1]:
        console.print(_errors(heads))
    for line in describe_doubts(run):
        console.print(line, soft_wrap=True, markup=False)


def print_measured(console: Console, run: SavedRun, names: Sequence[str]) -> None:
    """These numbers at three epochs; of many those first that the summary and the report show."""
    known = {name for place in PLACES for name, _ in selected(place)}
    chosen = sorted(names, key=lambda name: name not in known)
    if run.records and chosen:
        console.print(_quantities("measured", _three_epochs(run), chosen[:MOST_MEASURED]))
    if len(chosen) > MOST_MEASURED:
        console.print(f"and {len(chosen) - MOST_MEASURED} more: `ncexp export`, or ncexp.load(...).frame()")


def _three_epochs(run: SavedRun) -> dict[str, Record | None]:
    zero = None if run.zero_error_epoch is None else record_at(run, run.zero_error_epoch)
    epochs = {"first epoch": run.records[0], "zero error": zero, "last epoch": run.records[-1]}
    return {f"{head} ({one['epoch']:.0f})" if one else f"{head} (none)": one for head, one in epochs.items()}


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


def row_label(name: str, row: Quantity | None) -> str:
    """What a table of one run calls a number, short enough for 80 columns; train is named for loss and error alone."""
    if row is None or row.name.startswith("layers/"):
        return name
    return row.short if name.startswith("train/") and "/" in row.name else f"{name.partition('/')[0]} {row.short}"


def number(value: float, row: Quantity | None) -> str:
    """Three digits, or a share in percent; an undefined value in words."""
    if math.isnan(value):
        return "undefined"
    if row is None or not row.is_share:
        return f"{value:.3g}"
    return f"{100 * value:.3g}%" if row.is_log else f"{value:.2%}"


def _quantities(title: str, heads: dict[str, Record | None], names: Sequence[str]) -> Table:
    """The numbers that one of these records has."""
    table = Table(box=None, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    for name in names:
        if any(name in record for record in heads.values() if record):
            table.add_row(row_label(name, find(name)), *(_entry(record, name) for record in heads.values()))
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
