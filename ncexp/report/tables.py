"""The report's tables: computed once, written for the terminal and as Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table as TerminalTable

from ncexp.record import SavedRun, State, format_counts
from ncexp.record.text import csv_cell, printable
from ncexp.report.columns import ABSENT, ZERO_EPOCH, Column, text_of
from ncexp.report.numbers import Value, describe_doubts
from ncexp.report.study import Setting, Study, over_seeds

if TYPE_CHECKING:
    from pandas import DataFrame

#: Symbols of our labels that LaTeX's text does not have.
TEX = {"±": r"$\pm$", "–": "--", "ω": r"$\omega$", "⊥": r"$^\perp$", "₁": "$_1$"}
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


def settings(study: Study) -> Table:
    """A row a setting, the best first: its axes, what was chosen of the free ones, its runs, its numbers at the end.

    Numbers are the mean ± the standard error over the runs that completed and have the number; where none did, over
    those that are under way or ended early, as `runs` says.
    """
    free = [f"{column.label} (chosen)" for column in study.free] if study.best else []
    columns = [*(column.label for column in study.by), *free, "runs", *(column.label for column in _numbers(study))]
    rows = [
        [*setting.values.values()]
        + [setting.chosen.get(column.name, ABSENT) for column in study.free if study.best]
        + [_counted(setting)]
        + [over_seeds(setting.done, column.of, _places(column), "se") for column in _numbers(study)]
        for setting in study.ranked
    ]
    return Table.of("settings", "Every setting at the end: mean ± standard error over its runs", columns, rows)


def differences(study: Study) -> Table:
    """Of each axis: each value less the first, at equal values of all other axes and the seed: paired differences.

    Mean ± standard error over the pairs of runs that completed. One seed draws the same first weights and the same
    order of examples, so that differences of pairs vary less than the runs.
    """
    kept = [(one.values, run) for one in study.settings for run in one.kept if run.state is State.COMPLETED]
    rows: list[list[Entry]] = []
    for axis in study.by:
        values = [text for text in axis.texts if any(has[axis.name] == text for has, _ in kept)]
        for value in values[1:]:
            pairs = _pairs(kept, axis.name, value, values[0])
            if pairs:
                numbers = [_difference(pairs, column) for column in _numbers(study)]
                rows.append([axis.label, value, values[0], str(len(pairs)), *numbers])
    columns = ["key", "value", "less", "pairs", *(column.label for column in _numbers(study))]
    title = "What each key does: differences at equal other keys and seed, mean ± standard error over pairs"
    return Table.of("differences", title, columns, rows)


def _pairs(
    kept: Sequence[tuple[dict[str, str], SavedRun]], axis: str, value: str, other: str
) -> list[tuple[SavedRun, SavedRun]]:
    """The runs that differ in this axis alone, with the one value and with the other."""
    by_value: dict[str, dict[tuple[object, ...], SavedRun]] = {value: {}, other: {}}
    for has, run in kept:
        if has[axis] in by_value and run.seed is not None:
            by_value[has[axis]][(run.seed, *((name, text) for name, text in has.items() if name != axis))] = run
    return [(run, by_value[other][place]) for place, run in by_value[value].items() if place in by_value[other]]


def _difference(pairs: Sequence[tuple[SavedRun, SavedRun]], column: Column) -> Value:
    return Value.of([column.of(one) - column.of(other) for one, other in pairs], _places(column), "se")


def _numbers(study: Study) -> list[Column]:
    """What tables show of each setting: what is drawn, and when zero error was reached."""
    return [*study.layout.y, *(column for column in study.quantities if column.name == ZERO_EPOCH)]


def _places(column: Column) -> str:
    return ".2f" if column.row is not None and column.row.scale == "percent" else ".3g"


def _counted(setting: Setting) -> str:
    """``3``, or ``2 of 3 (1 diverged)``: of what is shown, or of all where nothing is."""
    runs = setting.runs if setting.shown is None else setting.shown.runs
    others = [run.state for run in runs if run.state is not State.COMPLETED]
    return f"{len(runs) - len(others)} of {len(runs)} ({format_counts(others)})" if others else str(len(runs))


def runs(study: Study) -> Table:
    """A row a run: its keys, state, last evaluated epoch and numbers, a single value each."""
    rows = [
        [run.name, run.key, *(text_of(run, column.name) for column in study.keys), str(run.state)]
        + [str(int(run.records[-1]["epoch"])) if run.records else ABSENT]
        + [Value.of([column.of(run)], _places(column)) for column in _numbers(study)]
        for run in study.runs
    ]
    keys, numbers = (column.label for column in study.keys), (column.label for column in _numbers(study))
    return Table.of("runs", "Every run", ["run", "key", *keys, "state", "last epoch", *numbers], rows)


def troubles(runs: Iterable[SavedRun]) -> Table:
    """The runs that are not completed: how far they are, and why; and those of whose numbers some are in doubt."""
    rows = []
    for run in runs:
        whys = [run.message] * (run.state is not State.COMPLETED) + describe_doubts(run)
        if run.state is not State.COMPLETED or run.doubts:
            reached = max((one[-1]["epoch"] for one in (run.training, run.records) if one), default=0)
            rows.append([run.name, run.key, str(run.state), f"{reached:.0f}", "; ".join(filter(None, whys))])
    columns = ["run", "key", "state", "last epoch", "why"]
    return Table.of("troubles", "Runs that are not completed, or with numbers in doubt", columns, rows)


def correlation(study: Study) -> Table:
    """The scatter's two numbers, Spearman's ρ, its 95 % interval by bootstrap and the number of runs."""
    assert study.layout.scatter is not None
    x, y = study.layout.scatter
    rho, low, high, count = study.correlation
    row: list[Entry] = [x.label, y.label, *(Value.of([number]) for number in (rho, low, high)), str(count)]
    columns = ["x", "y", "Spearman's ρ", "95 % from", "to", "runs"]
    return Table.of(
        "correlation", "Rank correlation over the runs that completed and have both numbers", columns, [row]
    )
