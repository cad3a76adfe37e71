"""The report's tables: computed once, written as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from ncexp.journal import Record
from ncexp.report.sweep import Cell, Sweep
from ncexp.run_record import RunRecord
from ncexp.summary import zero_error_epoch

#: Column → quantity at the last epoch, as far as it is recorded; shares in percent.
AT_THE_END = {
    "NC1": "train/nc1_trace",
    "equinorm means": "train/equinorm_means",
    "equinorm classifier": "train/equinorm_classifier",
    "max. angle means": "train/maximal_angle_means",
    "max. angle classifier": "train/maximal_angle_classifier",
    "self-duality": "train/self_duality",
    "NCC mismatch %": "train/nearest_class_center_mismatch",
}


@dataclass(frozen=True)
class Value:
    """Mean and standard deviation (n − 1) over seeds; std is nan for a single one, mean for none."""

    mean: float
    std: float
    places: str = ".3g"

    @classmethod
    def of(cls, values: list[float], places: str = ".3g") -> Value:
        """Of the values that are defined."""
        defined = [value for value in values if not math.isnan(value)]
        std = statistics.stdev(defined) if len(defined) > 1 else math.nan
        return cls(statistics.fmean(defined) if defined else math.nan, std, places)

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        return f"{self.mean:{self.places}}" + ("" if math.isnan(self.std) else f" ± {self.std:{self.places}}")


Entry = str | Value


@dataclass(frozen=True)
class Table:
    """A title for people, a name for files, and the entries by row."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Entry]]

    def markdown(self) -> str:
        """For a README or a page of the docs."""
        lines = [self.columns, ["---"] * len(self.columns), *([_escape_bar(str(e)) for e in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def csv(self) -> str:
        """All digits; a value's standard deviation in a column of its own."""
        wide = [any(isinstance(row[i], Value) for row in self.rows) for i in range(len(self.columns))]
        head = [name for i, name in enumerate(self.columns) for name in ([name, f"{name} std"] if wide[i] else [name])]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(head)
        for row in self.rows:
            writer.writerow([part for i, entry in enumerate(row) for part in _digits(entry, wide[i])])
        return text.getvalue()

    def latex(self) -> str:
        """A tabular with booktabs' lines."""
        head = " & ".join(map(_escape_tex, self.columns))
        body = [" & ".join(_escape_tex(str(entry)) for entry in row) for row in self.rows]
        lines = ["\\toprule", f"{head} \\\\", "\\midrule", *(f"{row} \\\\" for row in body), "\\bottomrule"]
        align = "l" * len(self.columns)
        return "\n".join([f"\\begin{{tabular}}{{{align}}}", *lines, "\\end{tabular}"]) + "\n"


def results(sweep: Sweep) -> Table:
    """One row a cell, at its best learning rate: accuracies in percent, gain in points, collapse at the end."""
    measured = {name for cell in sweep.cells.values() for run in cell.best for name in run.records[-1]}
    at_the_end = {column: name for column, name in AT_THE_END.items() if name in measured}
    robust = sorted(name for name in measured if name == "test/robustness")
    accuracy = ["test acc. at zero error %", "test acc. at the end %", "gain", "zero-error epoch"]
    columns = ["dataset", "network", "loss", "learning rate", "seeds", *accuracy, *robust, *at_the_end]
    rows = []
    for cell in sweep.cells.values():
        row: list[Entry] = [
            *cell.place,
            "–" if cell.best_rate is None else f"{cell.best_rate:.4g}",
            str(len(cell.best)),
        ]
        row += [_over_seeds(cell, _zero_accuracy, ".2f"), _over_seeds(cell, _last_accuracy, ".2f")]
        row += [_over_seeds(cell, gain, ".2f"), _over_seeds(cell, _zero_epoch, ".0f")]
        row += [_over_seeds(cell, _last(name)) for name in robust]
        row += [_over_seeds(cell, _last(name, 100 if "%" in column else 1)) for column, name in at_the_end.items()]
        rows.append(row)
    return Table("results", "Every cell at its best learning rate", columns, rows)


def gains(sweep: Sweep) -> Table:
    """Median and mean over the cells of the accuracy won from zero error to the end, by loss, as HPD22 states them."""
    rows: list[list[Entry]] = []
    for loss in sweep.losses:
        cells = [cell for place, cell in sweep.cells.items() if place[2] == loss]
        found = [value.mean for cell in cells if not math.isnan((value := _over_seeds(cell, gain, ".3f")).mean)]
        middle, mean = (f"{statistics.median(found):.3f}", f"{statistics.fmean(found):.3f}") if found else ("–", "–")
        rows.append([loss, f"{len(found)} of {len(cells)}", middle, mean])
    columns = ["loss", "cells with zero error", "median gain, points", "mean gain, points"]
    return Table("gains", "Test accuracy won after zero error", columns, rows)


def learning_rates(sweep: Sweep) -> Table:
    """Test error in percent at the last epoch of every cell and rate; the chosen one in brackets."""
    rates = sorted({rate for cell in sweep.cells.values() for rate in cell.rates})
    rows: list[list[Entry]] = [
        [*cell.place, *(_rate_entry(cell, rate) for rate in rates)] for cell in sweep.cells.values()
    ]
    columns = ["dataset", "network", "loss", *(f"{rate:.3g}" for rate in rates)]
    return Table("learning_rates", "Test error % at the last epoch by learning rate", columns, rows)


def troubles(sweep: Sweep) -> Table:
    """The runs that are not completed: how far they came, and why."""
    rows: list[list[Entry]] = [
        [run.name, run.key, run.state, str(int(run.records[-1]["epoch"]) if run.records else 0), run.message]
        for run in sweep.runs
        if run.state != "completed"
    ]
    return Table("troubles", "Runs that did not complete", ["run", "key", "state", "last epoch", "why"], rows)


def gain(run: RunRecord) -> float:
    """Test accuracy at the last epoch less that at the zero-error epoch, in points; nan where there was none."""
    return _last_accuracy(run) - _zero_accuracy(run)


def _rate_entry(cell: Cell, rate: float) -> str:
    if rate in cell.complete_rates:
        number = f"{100 * cell.complete_rates[rate]:.2f}"
        return f"[{number}]" if rate == cell.best_rate else number
    return ", ".join(sorted({run.state for run in cell.rates.get(rate, []) if run.state != "completed"}))


def _over_seeds(cell: Cell, quantity: Callable[[RunRecord], float], places: str = ".3g") -> Value:
    return Value.of([quantity(run) for run in cell.best], places)


def _last(name: str, scale: float = 1) -> Callable[[RunRecord], float]:
    return lambda run: scale * run.records[-1].get(name, math.nan)


def _last_accuracy(run: RunRecord) -> float:
    return 100 * (1 - run.records[-1]["test/error"])


def _zero_accuracy(run: RunRecord) -> float:
    record = _zero_record(run)
    return math.nan if record is None else 100 * (1 - record["test/error"])


def _zero_epoch(run: RunRecord) -> float:
    return math.nan if (record := _zero_record(run)) is None else record["epoch"]


def _zero_record(run: RunRecord) -> Record | None:
    epoch = zero_error_epoch(run.records)
    return next((record for record in run.records if record["epoch"] == epoch), None)


def _digits(entry: Entry, wide: bool) -> list[str]:
    if isinstance(entry, Value):
        return ["" if math.isnan(number) else repr(number) for number in (entry.mean, entry.std)]
    return [entry, ""] if wide else [entry]


def _escape_bar(text: str) -> str:
    return text.replace("|", "\\|")


def _escape_tex(text: str) -> str:
    for character in "_%&#":
        text = text.replace(character, f"\\{character}")
    return text.replace("±", "$\\pm$").replace("–", "--")
