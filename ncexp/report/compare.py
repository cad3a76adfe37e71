"""A few runs side by side: what was chosen differently, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ncexp.record import SavedRun
from ncexp.record.quantities import find, selected
from ncexp.report.reference import LEVEL, MOST_OUTSIDE, WHOLE_LEVEL, Verdict, configuration_of
from ncexp.report.summary import number, record_at, row_label


def comparison(runs: Sequence[SavedRun]) -> Table:
    """A column a run; first what differs in the choices, then the numbers at the last common epoch."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for run in runs:
        table.add_column(run.key, justify="right")
    for name in differing(runs):
        table.add_row(name, *(_text(run.choices.get(name)) for run in runs))
    table.add_row("state", *(str(run.state) for run in runs))
    table.add_row("zero error at epoch", *(_text(run.zero_error_epoch) for run in runs), end_section=True)
    epoch = last_common_epoch(runs)
    if epoch is None:
        table.add_row("no epoch in common", *("" for _ in runs))
        return table
    table.add_row(f"at epoch {epoch}", *("" for _ in runs), style="bold")
    records = [record_at(run, epoch) or {} for run in runs]
    for name, row in selected("summary"):
        values = [record.get(name, math.nan) for record in records]
        if not all(map(math.isnan, values)):
            table.add_row(row_label(name, row), *("–" if math.isnan(one) else number(one, row) for one in values))
    return table


def differing(runs: Sequence[SavedRun]) -> list[str]:
    """The choices that are not the same in all runs; lr stands for optimizer.lr."""
    names = dict.fromkeys(name for run in runs for name in run.choices if name != "optimizer.lr")
    return [name for name in names if len({str(run.choices.get(name)) for run in runs}) > 1]


def last_common_epoch(runs: Sequence[SavedRun]) -> int | None:
    """The last epoch at which every run was evaluated; None where there is none."""
    common = set.intersection(*({int(record["epoch"]) for record in run.records} for run in runs))
    return max(common, default=None)


def verdict_table(run: SavedRun, verdict: Verdict) -> Table:
    """A row a quantity: at which epochs it lies in its band, and whether it differs; the last number, and its band."""
    table = Table("quantity", "in the band?", "last", "band", title=run.name, box=None, pad_edge=False)
    for quantity in dict.fromkeys(quantity for quantity, _ in verdict.values):
        epochs = [epoch for name, epoch in verdict.values if name == quantity]
        out = [epoch for epoch in epochs if not _within(verdict, (quantity, epoch))]
        words = "yes" if not out else "no" if out == epochs else f"no, at epoch {', '.join(out)}"
        low, _, high = verdict.bands[quantity, epochs[-1]]
        row = find(quantity)
        if row is not None and row.scale == "percent":
            low, high = max(low, 0.0), min(high, 1.0)
        value = verdict.values[quantity, epochs[-1]]
        said = f"{words}: differs" if quantity in verdict.differing else words
        table.add_row(quantity, said, number(value, row), f"{number(low, row)} to {number(high, row)}")
    return table


def _within(verdict: Verdict, number: tuple[str, str]) -> bool:
    low, _, high = verdict.bands[number]
    return low <= verdict.values[number] <= high


def verdict_words(run: SavedRun, verdict: Verdict, reference: Mapping[str, Any]) -> list[str]:
    """What the run lacks or has chosen otherwise, and whether it agrees."""
    asked, chosen = reference["configuration"], configuration_of(run)
    lines = [
        f"chosen otherwise: {name} = {chosen.get(name)}, the reference {asked.get(name)}"
        for name in dict.fromkeys([*asked, *chosen])
        if str(chosen.get(name)) != str(asked.get(name))
    ]
    if verdict.lacking:
        lines.append(f"not measured, so not compared: {', '.join(verdict.lacking)}")
    seeds = len(reference["seeds"])
    counted = (
        f"{len(verdict.outside)} of {len(verdict.values)} numbers ({verdict.share:.1%}) outside the {WHOLE_LEVEL:.0%} "
        f"intervals of {seeds} seeds, {MOST_OUTSIDE:.0%} are allowed; outside its {LEVEL:.1%} band at more than half "
        f"of its epochs: {', '.join(verdict.differing) or 'no quantity'}"
    )
    return [*lines, f"{run.name} {'agrees with' if verdict.agrees else 'differs from'} {reference['name']}: {counted}"]


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
