"""The report's tables: computed once, written as Markdown, CSV and LaTeX."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pandas import DataFrame

from ncexp.record import Record, SavedRun, State
from ncexp.record.quantities import Quantity, selected
from ncexp.record.text import csv_cell, printable
from ncexp.report.summary import ROBUSTNESS, TERMS, describe_doubts, rate_of_fall, record_at, small_perp_epoch
from ncexp.report.sweep import Cell, Sweep, deviation, last_test_error, mean

#: What marks a learning rate that is the smallest or the largest of its cell's grid.
EDGE = " (edge)"
#: Symbols of our labels that LaTeX's text does not have.
TEX = {"±": r"$\pm$", "–": "--", "ω": r"$\omega$", "⊥": r"$^\perp$", "₁": "$_1$"}


@dataclass(frozen=True)
class Value:
    """Mean over seeds and its spread, nan for a single one; of no seed the mean is nan, too.

    kind of the spread: std, the standard deviation (n − 1), or se, the standard error of the mean, std/√n. seeds: how
    many have the number, of how many: told where not all have it.
    """

    mean: float
    spread: float
    places: str = ".3g"
    kind: Literal["std", "se"] = "std"
    seeds: int = 0
    of_seeds: int = 0

    @classmethod
    def of(cls, values: Sequence[float], places: str = ".3g", kind: Literal["std", "se"] = "std") -> Value:
        """Of the values that are defined."""
        defined = [value for value in values if not math.isnan(value)]
        spread = deviation(defined)
        spread /= math.sqrt(len(defined)) if kind == "se" and defined else 1
        return cls(mean(defined) if defined else math.nan, spread, places, kind, len(defined), len(values))

    @property
    def counted(self) -> str:
        """``2 of 3``, the seeds that have the number; empty where all have it."""
        return f"{self.seeds} of {self.of_seeds}" if self.seeds < self.of_seeds else ""

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:{self.places}}"
        return f"{self.mean:{self.places}}{spread}" + (f" ({self.counted})" if self.counted else "")


Entry = str | Value


@dataclass(frozen=True)
class Table:
    """A title for people, a name for files, and a frame whose entries are words or Values."""

    name: str
    title: str
    frame: DataFrame

    @classmethod
    def of(cls, name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Entry]]) -> Table:
        """With these columns, also where there is no row."""
        return cls(name, title, DataFrame(rows, columns=list(columns), dtype=object))

    @property
    def rows(self) -> list[list[Entry]]:
        """The entries by row; words, which may be a run's, in one line and printable."""
        rows: list[list[Entry]] = self.frame.map(_word).to_numpy().tolist()
        return rows

    def markdown(self) -> str:
        """For a README or a page of the docs."""
        entries = [[str(entry).replace("|", "\\|") for entry in row] for row in self.rows]
        lines = [list(self.frame.columns), ["---"] * len(self.frame.columns), *entries]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def csv(self) -> str:
        """All digits. A value's spread has a column of its own, called std or se; seeds have one where some lack it."""
        columns: dict[str, list[object]] = {}
        for place, name in enumerate(self.frame.columns):
            entries = [row[place] for row in self.rows]
            if kinds := {entry.kind for entry in entries if isinstance(entry, Value)}:
                columns[name] = [entry.mean if isinstance(entry, Value) else entry for entry in entries]
                spreads: list[object] = [entry.spread if isinstance(entry, Value) else "" for entry in entries]
                columns[f"{name} {kinds.pop()}"] = spreads
                seeds: list[object] = [entry.counted if isinstance(entry, Value) else "" for entry in entries]
                if any(seeds):
                    columns[f"{name} seeds"] = seeds
            else:
                columns[name] = [*map(csv_cell, entries)]
        return DataFrame(columns).to_csv(index=False)

    def latex(self) -> str:
        """A tabular with booktabs' lines."""
        aligned = "l" * len(self.frame.columns)
        text = self.frame.map(_word).map(str).to_latex(index=False, escape=True, column_format=aligned)
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
    at_the_end = [(name, row) for name, row in selected("report") if name in measured]
    columns = ["dataset", "network", "loss", "learning rate", "seeds", *ACCURACIES]
    columns += [_heading(name, row) for name, row in at_the_end]
    rows = []
    for cell in sweep.cells.values():
        row: list[Entry] = [*cell.place, _shown_rate(cell), str(len(cell.best))]
        row += [over_seeds(cell, of, places) for of, places in ACCURACIES.values()]
        row += [over_seeds(cell, _last(name, shown_row)) for name, shown_row in at_the_end]
        rows.append(row)
    return Table.of("results", "Every cell at its best learning rate", columns, rows)


def gains(sweep: Sweep) -> Table:
    """Median and mean over the cells of what is won from zero error to the end, by loss, as HPD22 states it.

    Test accuracy in points; robustness, where it was measured at both epochs.
    """
    rows: list[list[Entry]] = []
    for loss in sweep.losses:
        cells = [cell for place, cell in sweep.cells.items() if place[2] == loss]
        complete = [cell for cell in cells if cell.best_rate is not None]
        row: list[Entry] = [loss]
        for of in (gain, robustness_gain):
            found = [value for cell in complete if (value := over_seeds(cell, of)).seeds]
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
    rows: list[list[Entry]] = []
    for cell in sweep.cells.values():
        recorded = any("train/mse/loss_ls_perp" in run.records[-1] for run in cell.best)
        if cell.best_rate is None or not recorded:
            continue
        row: list[Entry] = [*cell.place, str(len(cell.best))]
        row += [
            over_seeds(cell, partial(small_perp_epoch, beside=term), ".0f") for term in ("loss_nc1", "loss_nc1_data")
        ]
        row += [over_seeds(cell, partial(rate_of_fall, term=term), ".2f") for term in TERMS.values()]
        rows.append(row)
    columns = ["dataset", "network", "loss", "seeds", "L_LS⊥ < L_NC1/10 from epoch", "of its data part"]
    columns += [f"p of {name}" for name in TERMS]
    title = "Figure 2 in numbers: L_LS⊥ beside L_NC1; terms as epoch^p after zero error, on train features"
    return Table.of("decomposition", title, columns, rows)


def learning_rates(sweep: Sweep) -> Table:
    """Test error in percent at the last epoch of every cell and rate; the chosen one in brackets, marked at an edge."""
    rates = sorted({rate for cell in sweep.cells.values() for rate in cell.rates})
    rows = [[*cell.place, *(_rate_entry(cell, rate) for rate in rates)] for cell in sweep.cells.values()]
    columns = ["dataset", "network", "loss", *(f"{rate:g}" for rate in rates)]
    return Table.of("learning_rates", "Test error % at the last epoch by learning rate", columns, rows)


def troubles(sweep: Sweep) -> Table:
    """The runs that are not completed: how far they are, and why; and those of whose numbers some are in doubt."""
    rows = [
        [run.name, run.key, str(run.state), str(_reached(run)), "; ".join(filter(None, whys))]
        for run in sweep.runs
        for whys in [[run.message if run.state is not State.COMPLETED else "", *describe_doubts(run)]]
        if run.state is not State.COMPLETED or run.doubts
    ]
    columns = ["run", "key", "state", "last epoch", "why"]
    return Table.of("troubles", "Runs that are not completed, or with numbers in doubt", columns, rows)


def settings(sweep: Sweep) -> Table:
    """In what the groups of runs differ, where they do: see `ncexp.report.sweep`."""
    counts = Counter(place[2].partition(", ")[2] for place, cell in sweep.cells.items() for _ in cell.runs)
    rows = [
        [name, str(counts[name]), ", ".join(f"{key} = {value}" for key, value in zip(sweep.keys, values, strict=True))]
        for name, values in sweep.settings.items()
    ]
    return Table.of("settings", "Settings in which the runs differ", ["setting", "runs", "values"], rows)


def gain(run: SavedRun) -> float:
    """Test accuracy at the last epoch less that at the zero-error epoch, in points; nan where there was none."""
    return _last_accuracy(run) - _zero_accuracy(run)


def robustness_gain(run: SavedRun) -> float:
    """Robustness at the last epoch less that at the zero-error epoch; nan where it was not measured at both."""
    return run.records[-1].get(ROBUSTNESS, math.nan) - _at_zero_error(run).get(ROBUSTNESS, math.nan)


def _last_accuracy(run: SavedRun) -> float:
    return 100 * (1 - run.records[-1].get("test/error", math.nan))


def _zero_accuracy(run: SavedRun) -> float:
    return 100 * (1 - _at_zero_error(run).get("test/error", math.nan))


def _at_zero_error(run: SavedRun) -> Record:
    """The record of the zero-error epoch; empty where it was not reached."""
    return {} if run.zero_error_epoch is None else record_at(run, run.zero_error_epoch) or {}


def _zero_epoch(run: SavedRun) -> float:
    return math.nan if run.zero_error_epoch is None else run.zero_error_epoch


#: Column → what it holds of a run, and how it is printed.
ACCURACIES: Mapping[str, tuple[Callable[[SavedRun], float], str]] = {
    "test acc. at zero error %": (_zero_accuracy, ".2f"),
    "test acc. at the end %": (_last_accuracy, ".2f"),
    "gain": (gain, ".2f"),
    "zero-error epoch": (_zero_epoch, ".0f"),
}


def _heading(name: str, row: Quantity) -> str:
    """The catalogue's short label, with the unit, and the split where it is not train."""
    unit = " %" if row.is_share else ""
    return f"{row.short}{unit}" + ("" if name.startswith("train/") else f", {name.partition('/')[0]}")


def _last(name: str, row: Quantity) -> Callable[[SavedRun], float]:
    scale = 100 if row.is_share else 1
    return lambda run: scale * run.records[-1].get(name, math.nan)


def over_seeds(cell: Cell, of: Callable[[SavedRun], float], places: str = ".3g") -> Value:
    """A number of the runs at the cell's best rate."""
    return Value.of([of(run) for run in cell.best], places)


def _shown_rate(cell: Cell) -> str:
    if cell.shown_rate is None:
        return f"– ({_states(cell.runs)})"
    rate = "–" if math.isnan(cell.shown_rate) else f"{cell.shown_rate:.4g}"
    if cell.best_rate is not None:
        return rate + (EDGE if cell.at_edge else "")
    epochs = sorted({f"{run.records[-1]['epoch']:.0f}" for run in cell.best}, key=int)
    return f"{rate} ({_states(cell.best)}, at epoch {' to '.join(dict.fromkeys([epochs[0], epochs[-1]]))})"


def _rate_entry(cell: Cell, rate: float) -> str:
    """The error at the last epoch; of a rate that is not complete its states, and if it leads the error so far."""
    if rate in cell.complete_rates:
        entry = f"{100 * cell.complete_rates[rate]:.2f}"
        seeds, most = len(cell.rates[rate]), max(map(len, cell.rates.values()))
        counted = f" ({seeds} of {most} seeds)" if seeds < most else ""
        return (f"[{entry}]{EDGE if cell.at_edge else ''}" if rate == cell.best_rate else entry) + counted
    words = _states(cell.rates.get(rate, []))
    return f"[{100 * last_test_error(cell.best):.2f}] ({words})" if rate == cell.shown_rate else words


def _states(runs: Sequence[SavedRun]) -> str:
    return ", ".join(sorted({run.state for run in runs if run.state is not State.COMPLETED}))


def _reached(run: SavedRun) -> int:
    return int(max((one[-1]["epoch"] for one in (run.training, run.records) if one), default=0))
