"""The table MSE beside cross-entropy: what another loss changes in each network on each dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ncexp.record import SavedRun
from ncexp.report.summary import ROBUSTNESS
from ncexp.report.sweep import Cell, Sweep
from ncexp.report.tables import ACCURACIES, Entry, Table, Value

OTHER = "cross_entropy"
#: Row → what it holds of a run, and how it is printed.
QUANTITIES: Mapping[str, tuple[Callable[[SavedRun], float], str]] = {
    **ACCURACIES,
    "robustness at the end": (lambda run: run.records[-1].get(ROBUSTNESS, math.nan), ".4f"),
}
COLUMNS = ["dataset", "network", "quantity", "loss", "value", OTHER, "difference", "seeds of both"]


def differences(sweep: Sweep) -> Table:
    """Each cell of an MSE loss beside that of cross-entropy in the same setting, each at its best rate.

    Means ± standard errors over the seeds of which both have the number; the difference, MSE less cross-entropy, is
    paired: one seed draws the same first weights and the same order of examples for both. A standard error needs two
    seeds. Of the cells with a complete rate.
    """
    rows: list[list[Entry]] = []
    for (dataset, network, loss), cell in sweep.cells.items():
        name, comma, setting = loss.partition(", ")
        other = sweep.cells.get((dataset, network, f"{OTHER}{comma}{setting}"))
        if not name.startswith("mse") or other is None or None in (cell.best_rate, other.best_rate):
            continue
        seeds = {run.seed for run in (*cell.best, *other.best)}
        for quantity, (of, places) in QUANTITIES.items():
            values, others = _by_seed(cell, of), _by_seed(other, of)
            if not (values and others):
                continue
            both = sorted(values.keys() & others.keys())
            pairs = [(values[seed], others[seed], values[seed] - others[seed]) for seed in both]
            compared = (Value.of([pair[place] for pair in pairs], places, "se") for place in range(3))
            counted = f"{len(both)} of {len(seeds)}" if len(both) < len(seeds) else str(len(both))
            rows.append([dataset, network, quantity, loss, *compared, counted])
    return Table.of("differences", "MSE beside cross-entropy: mean ± standard error over seeds", COLUMNS, rows)


def _by_seed(cell: Cell, of: Callable[[SavedRun], float]) -> dict[int, float]:
    """Seed → the number at the cell's best rate, where it is defined."""
    found = {run.seed: of(run) for run in cell.best if run.seed is not None}
    return {seed: value for seed, value in found.items() if not math.isnan(value)}
