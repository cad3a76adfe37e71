"""A few runs side by side: what was chosen differently, and what came of it; or one run beside a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table as TerminalTable

from ncexp.record import SavedRun
from ncexp.record.quantities import find, selected
from ncexp.report.columns import differing
from ncexp.report.numbers import record_at
from ncexp.report.reference import LEVEL, MOST_OUTSIDE, WHOLE_LEVEL, Verdict, configuration_of
from ncexp.report.run import number, row_label
from ncexp.report.tables import Table


def comparison(runs: Sequence[SavedRun]) -> TerminalTable:
    """A column a run; first what differs in the choices, then the numbers at the last common epoch."""
    rows = [[name, *(_text(run.choices.get(name)) for run in runs)] for name in differing(runs)]
    rows.append(["state", *(str(run.state) for run in runs)])
    rows.append(["zero error at epoch", *(_text(run.zero_error_epoch) for run in runs)])
    epoch = last_common_epoch(runs)
    rows.append([f"at epoch {epoch}" if epoch is not None else "no epoch in common", *("" for _ in runs)])
    records = [record_at(run, epoch) for run in runs]
    for name, row in selected("summary"):
        values = [record.get(name, math.nan) for record in records]
        if not all(map(math.isnan, values)):
            rows.append([row_label(name, row), *("–" if math.isnan(one) else number(one, row) for one in values)])
    return Table.of("", "", ["", *(run.key for run in runs)], rows).terminal()


def last_common_epoch(runs: Sequence[SavedRun]) -> int | None:
    """The last epoch at which every run was evaluated; None where there is none."""
    common = set.intersection(*({int(record["epoch"]) for record in run.records} for run in runs))
    return max(common, default=None)


def verdict_table(run: SavedRun, verdict: Verdict) -> TerminalTable:
    """A row a quantity: at which epochs it lies in its band, and whether it differs; the last number, and its band."""
    rows = []
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
        rows.append([quantity, said, number(value, row), f"{number(low, row)} to {number(high, row)}"])
    return Table.of("", run.name, ["quantity", "in the band?", "last", "band"], rows).terminal(words=4)


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


def _within(verdict: Verdict, number: tuple[str, str]) -> bool:
    low, _, high = verdict.bands[number]
    return low <= verdict.values[number] <= high


def _text(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
