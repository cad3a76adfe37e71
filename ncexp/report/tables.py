"""The report's tables: computed once, written for the terminal and as Markdown, CSV and LaTeX."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table as TerminalTable

from ncexp.record import SavedRun, State
from ncexp.record.quantities import Quantity, selected
from ncexp.record.text import csv_cell, printable
from ncexp.report.numbers import (
    ACCURACIES,
    PERP,
    ROBUSTNESS,
    TERMS,
    Value,
    at_the_end,
    describe_doubts,
    gain,
    mean,
    rate_of_fall,
    robustness_gain,
    small_perp_epoch,
)
from ncexp.report.sweep import Cell, Sweep, over_seeds

if TYPE_CHECKING:
    from pandas import DataFrame

#: What marks a learning rate that is the smallest or the largest of its cell's grid.
EDGE = " (edge)"
#: Symbols of our labels that LaTeX's text does not have.
TEX = {"±": r"$\pm$", "–": "--", "ω": r"$\omega$", "⊥": r"$^\perp$", "₁": "$_1$"}
#: With which loss others are compared.
OTHER_LOSS = "cross_entropy"
PLACE = ["dataset", "network", "loss"]
Entry = str | Value


@dataclass(frozen=True)
class Table:
    """A name for files, a title for people, and rows whose entries are words or Values."""

    name: str
    title: str
    columns: Sequence[str]
    rows: list[list[Entry]]

    @classmethod
    def of(cls, name: str, title: str, columns: Sequence[str], rows: Iterable[Sequence[Entry]]) -> Table:
        """Words, which may be a run's, in one line and printable."""
        return cls(name, title, columns, [[_word(entry) for entry in row] for row in rows])

    @property
    def frame(self) -> DataFrame:
        """As pandas has it, which the training's own tables need not wait for."""
        from pandas import DataFrame

        return DataFrame(self.rows, columns=list(self.columns), dtype=object)

    def terminal(self, words: int = 1) -> TerminalTable:
        """For a console. The first `words` columns are words, the others numbers, which stand at the right."""
        table = TerminalTable(title=self.title or None, box=None, pad_edge=False)
        for place, name in enumerate(self.columns):
            table.add_column(name, justify="left" if place < words else "right", no_wrap=place == 0 or place >= words)
        for row in self.rows:
            table.add_row(*map(str, row))
        return table

    def markdown(self) -> str:
        """For a README or a page of the docs."""
        entries = [[str(entry).replace("|", "\\|") for entry in row] for row in self.rows]
        lines = [self.columns, ["---"] * len(self.columns), *entries]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def csv(self) -> str:
        """All digits. A value's spread has a column of its own, called std or se; seeds have one where some lack it."""
        from pandas import DataFrame

        columns: dict[str, list[object]] = {}
        for place, name in enumerate(self.columns):
            entries = [row[place] for row in self.rows]
            values = [entry if isinstance(entry, Value) else None for entry in entries]
            columns[name] = [entry.mean if isinstance(entry, Value) else csv_cell(entry) for entry in entries]
            if kinds := {value.kind for value in values if value}:
                columns[f"{name} {kinds.pop()}"] = [value.spread if value else "" for value in values]
            if any(counted := [value.counted if value else "" for value in values]):
                columns[f"{name} seeds"] = [*counted]
        text: str = DataFrame(columns).to_csv(index=False)
        return text

    def latex(self) -> str:
        """A tabular with booktabs' lines."""
        text: str = self.frame.map(str).to_latex(index=False, escape=True, column_format="l" * len(self.columns))
        for symbol, command in TEX.items():
            text = text.replace(symbol, command)
        return text


def _word(entry: Entry) -> Entry:
    return " ".join(printable(entry).split()) if isinstance(entry, str) else entry


def results(sweep: Sweep) -> Table:
    """One row a cell, at its best learning rate: accuracies in percent, gain in points, collapse at the end.

    Where no rate is complete, the one that leads so far stands there, with its state and its last evaluated epoch.
    """
    measured = {name for cell in sweep.cells.values() for run in cell.best for name in run.records[-1]}
    at_end = [(name, row) for name, row in selected("report") if name in measured]
    rows = [
        [*cell.place, _shown_rate(cell), str(len(cell.best))]
        + [over_seeds(cell.best, of, places) for of, places in ACCURACIES.values()]
        + [over_seeds(cell.best, _in_units(name, row)) for name, row in at_end]
        for cell in sweep.cells.values()
    ]
    columns = [*PLACE, "learning rate", "seeds", *ACCURACIES, *(_heading(name, row) for name, row in at_end)]
    return Table.of("results", "Every cell at its best learning rate", columns, rows)


def differences(sweep: Sweep) -> Table:
    """Each cell of an MSE loss beside that of cross-entropy in the same setting, each at its best rate.

    Means ± standard errors over the seeds of which both have the number; the difference, MSE less cross-entropy, is
    paired: one seed draws the same first weights and the same order of examples for both. A standard error needs two
    seeds. Of the cells with a complete rate.
    """
    quantities = {**ACCURACIES, "robustness at the end": (at_the_end(ROBUSTNESS), ".4f")}
    rows: list[list[Entry]] = []
    for (dataset, network, loss), cell in sweep.cells.items():
        name, comma, setting = loss.partition(", ")
        other = sweep.cells.get((dataset, network, f"{OTHER_LOSS}{comma}{setting}"))
        if not name.startswith("mse") or other is None or None in (cell.best_rate, other.best_rate):
            continue
        seeds = {run.seed for run in (*cell.best, *other.best)}
        for quantity, (of, places) in quantities.items():
            values, others = _by_seed(cell, of), _by_seed(other, of)
            if not (values and others):
                continue
            both = sorted(values.keys() & others.keys())
            pairs = [(values[seed], others[seed], values[seed] - others[seed]) for seed in both]
            compared = (Value.of([pair[place] for pair in pairs], places, "se") for place in range(3))
            counted = f"{len(both)} of {len(seeds)}" if len(both) < len(seeds) else str(len(both))
            rows.append([dataset, network, quantity, loss, *compared, counted])
    columns = ["dataset", "network", "quantity", "loss", "value", OTHER_LOSS, "difference", "seeds of both"]
    return Table.of("differences", "MSE beside cross-entropy: mean ± standard error over seeds", columns, rows)


def _by_seed(cell: Cell, of: Callable[[SavedRun], float]) -> dict[int, float]:
    """Seed → the number at the cell's best rate, where it is defined."""
    found = {run.seed: of(run) for run in cell.best if run.seed is not None}
    return {seed: value for seed, value in found.items() if not math.isnan(value)}


def gains(sweep: Sweep) -> Table:
    """Median and mean over the cells of what is won from zero error to the end, by loss, as HPD22 states it.

    Test accuracy in points; robustness, where it was measured at both epochs.
    """
    rows: list[list[Entry]] = []
    for loss in sweep.losses:
        cells = [cell for place, cell in sweep.cells.items() if place[2] == loss]
        row: list[Entry] = [loss]
        for of in (gain, robustness_gain):
            found = [
                value for cell in cells if cell.best_rate is not None and (value := over_seeds(cell.best, of)).seeds
            ]
            means = [value.mean for value in found]
            both = (f"{of_all(means):.4f}" for of_all in (statistics.median, mean)) if found else ("–", "–")
            seeds, of_seeds = (sum(getattr(value, name) for value in found) for name in ("seeds", "of_seeds"))
            counted = f" ({seeds} of {of_seeds} seeds)" if seeds < of_seeds else ""
            row += [f"{len(found)} of {len(cells)}{counted}", *both]
        rows.append(row)
    columns = ["loss", "cells with zero error", "median gain, points", "mean gain, points"]
    columns += ["cells with robustness", "median gain in robustness", "mean gain in robustness"]
    return Table.of("gains", "Test accuracy and robustness won after zero error", columns, rows)


def decomposition(sweep: Sweep) -> Table:
    """HPD22 Figure 2's two claims as numbers, a row a cell: where L_LS⊥ stays small, how fast terms fall.

    Of the cells with a complete rate; mean ± deviation over the seeds.
    """
    terms = ("loss_nc1", "loss_nc1_data")
    rows = [
        [*cell.place, str(len(cell.best))]
        + [over_seeds(cell.best, partial(small_perp_epoch, beside=term), ".0f") for term in terms]
        + [over_seeds(cell.best, partial(rate_of_fall, term=term), ".2f") for term in TERMS.values()]
        for cell in sweep.cells.values()
        if cell.best_rate is not None and any(PERP in run.records[-1] for run in cell.best)
    ]
    columns = [*PLACE, "seeds", "L_LS⊥ < L_NC1/10 from epoch", "of its data part", *(f"p of {name}" for name in TERMS)]
    title = "Figure 2 in numbers: L_LS⊥ beside L_NC1; terms as epoch^p after zero error, on train features"
    return Table.of("decomposition", title, columns, rows)


def learning_rates(sweep: Sweep) -> Table:
    """Test error in percent at the last epoch of every cell and rate; the chosen one in brackets, marked at an edge."""
    rates = sorted({rate for cell in sweep.cells.values() for rate in cell.rates})
    rows = [[*cell.place, *(_rate_entry(cell, rate) for rate in rates)] for cell in sweep.cells.values()]
    columns = [*PLACE, *(f"{rate:g}" for rate in rates)]
    return Table.of("learning_rates", "Test error % at the last epoch by learning rate", columns, rows)


def troubles(sweep: Sweep) -> Table:
    """The runs that are not completed: how far they are, and why; and those of whose numbers some are in doubt."""
    rows = []
    for run in sweep.runs:
        whys = [run.message] * (run.state is not State.COMPLETED) + describe_doubts(run)
        if run.state is not State.COMPLETED or run.doubts:
            reached = max((one[-1]["epoch"] for one in (run.training, run.records) if one), default=0)
            rows.append([run.name, run.key, str(run.state), f"{reached:.0f}", "; ".join(filter(None, whys))])
    columns = ["run", "key", "state", "last epoch", "why"]
    return Table.of("troubles", "Runs that are not completed, or with numbers in doubt", columns, rows)


def settings(sweep: Sweep) -> Table:
    """In what the groups of runs differ, where they do: see `ncexp.report.sweep`."""
    rows = [
        [name, str(len(group.runs)), ", ".join(f"{axis} = {value}" for axis, value in group.values.items())]
        for name, group in sweep.settings.items()
    ]
    return Table.of("settings", "Settings in which the runs differ", ["setting", "runs", "values"], rows)


def _heading(name: str, row: Quantity) -> str:
    """The catalogue's short label, with the unit, and the split where it is not train."""
    unit = " %" if row.is_share else ""
    return f"{row.short}{unit}" + ("" if name.startswith("train/") else f", {name.partition('/')[0]}")


def _in_units(name: str, row: Quantity) -> Callable[[SavedRun], float]:
    """A number at the end, of shares in percent."""
    return lambda run: (100 if row.is_share else 1) * at_the_end(name)(run)


def _shown_rate(cell: Cell) -> str:
    if cell.shown_rate is None:
        return f"– ({_states(cell.runs)})"
    rate = "–" if math.isnan(cell.shown_rate) else f"{cell.shown_rate:.4g}"
    if cell.best_rate is not None:
        return rate + (EDGE if cell.at_edge else "")
    epochs = sorted({int(run.records[-1]["epoch"]) for run in cell.best})
    return f"{rate} ({_states(cell.best)}, at epoch {' to '.join(map(str, dict.fromkeys([epochs[0], epochs[-1]])))})"


def _rate_entry(cell: Cell, rate: float) -> str:
    """The error at the last epoch; of a rate that is not complete its states, and if it leads the error so far."""
    group = cell.rates.get(rate)
    if group is None:
        return ""
    error = f"{100 * group.error:.2f}"
    if rate not in cell.complete_rates:
        return f"[{error}] ({_states(group.runs)})" if rate == cell.shown_rate else _states(group.runs)
    seeds, most = len(group.runs), max(len(one.runs) for one in cell.rates.values())
    counted = f" ({seeds} of {most} seeds)" if seeds < most else ""
    return (f"[{error}]{EDGE if cell.at_edge else ''}" if rate == cell.best_rate else error) + counted


def _states(runs: Sequence[SavedRun]) -> str:
    return ", ".join(sorted({run.state for run in runs if run.state is not State.COMPLETED}))
