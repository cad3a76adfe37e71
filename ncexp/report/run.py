"""What one run came to: its tables, how it lies along the central path, its figures; and the same of a simulation."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table as TerminalTable

from ncexp.record import DamagedFile, Record, RunDirectory, SavedRun, counted, read_json, read_run, write_json
from ncexp.record.quantities import Quantity, find, selected
from ncexp.record.quantity import PLACES
from ncexp.report.numbers import (
    ERROR,
    NC1,
    PERP,
    TERMS,
    describe_doubts,
    rate_of_fall,
    record_at,
    small_perp_epoch,
)
from ncexp.report.study import study_of
from ncexp.report.tables import Table
from ncexp.report.verdict import print_outcome, print_verdict, verdict

if TYPE_CHECKING:
    from ncexp.measure import Comparison

#: Three ways to decide on the same features, each with its error on test.
CLASSIFIERS = {
    "network": ERROR,
    "least-squares layer": "test/decisions/least_squares_error",
    "nearest class mean": "test/decisions/nearest_class_center_error",
}
#: In figures/: which ones were drawn.
DRAWN = ".drawn.json"
#: How many numbers a measuring prints.
MOST_MEASURED = 30


def report_run(
    directory: RunDirectory,
    console: Console,
    summary: bool = True,
    figures: bool = True,
    measured: Sequence[str] = (),
    draws: bool = True,
) -> None:
    """The summary and `draw_run` with what it returns, each if wanted; the verdict.

    measured: names of numbers that are printed, too. draws: whether figures are drawn now, or, as of a sweep's runs,
    once somebody looks at them.
    """
    run = read_run(directory.path)
    if summary and run.records:
        print_summary(console, run)
    lines = (draw_run if draws else fit_path)(directory) if figures else []
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    print_measured(console, run, measured)
    print_verdict(console, verdict(run))


def report_runs(paths: Iterable[Path], console: Console) -> None:
    """What several runs came to: see `print_outcome`. One that cannot be read is named."""
    runs = []
    for path in counted([path for path in dict.fromkeys(paths) if (path / "config.yaml").exists()], "runs read"):
        try:
            runs.append(read_run(path))
        except DamagedFile as error:
            console.print(f"left out: {error}", soft_wrap=True, markup=False)
    if trained := {run.key: run for run in runs if not run.is_simulation}:
        print_outcome(console, study_of([*trained.values()]))


def draw_run(directory: RunDirectory, is_trained: bool = False) -> list[str]:
    """Write path_fit.json, draw the figures; returns a line for people of each. Nothing where nothing was evaluated.

    Figures that show all that the run has are left as they are: see `drawn_before`. is_trained: still, so that what the
    path comes to is not written yet.
    """
    newest = _newest(directory)  # before it is read: what comes meanwhile is not in the figures
    run = read_run(directory.path)
    if not run.records:
        return []
    comparison, lines = _fit(run, directory, is_trained)
    if (found := drawn_before(directory)) is None:
        from ncexp.report.figures import draw_figures  # matplotlib takes a second to import
        from ncexp.report.portraits import draw_pictures

        drawn = draw_figures(run, directory.figures, comparison)
        pictures, lacking = ([], []) if run.is_regression else draw_pictures(run, directory.figures)
        found = ([path.name for path in drawn + pictures], lacking)
        write_json(directory.figures / DRAWN, {"drawn": found[0], "not drawn": found[1]})
        os.utime(directory.figures / DRAWN, ns=(newest, newest))
    names, lacking = found
    lines += [f"not drawn {why}" for why in lacking]
    return lines + [f"figure    {directory.figures / name}" for name in names]


def fit_path(directory: RunDirectory) -> list[str]:
    """Write path_fit.json, whose numbers go to MLflow and reports; returns a line for people, where there is a path."""
    run = read_run(directory.path)
    return _fit(run, directory, False)[1] if run.records else []


def _fit(run: SavedRun, directory: RunDirectory, is_trained: bool) -> tuple[Comparison | None, list[str]]:
    from ncexp.measure import compare_with_path  # torch takes seconds: not for a table of what several runs came to

    comparison = compare_with_path(run)
    if comparison is None:
        return None, []
    if not is_trained:
        write_json(directory.path_fit, comparison.to_json())
    return comparison, [f"path      {comparison.sentence()}"]


def drawn_before(directory: RunDirectory) -> tuple[list[str], list[str]] | None:
    """The names of the run's figures, and why others could not be drawn; None unless all are there and of all its rows.

    They are noted in a file that bears the time of the newest journal or snapshot that they were drawn from.
    """
    noted = directory.figures / DRAWN
    try:
        found = TypeAdapter(dict[str, list[str]]).validate_python(read_json(noted))
        names, lacking = found["drawn"], found["not drawn"]
    except (DamagedFile, KeyError, ValidationError):  # or not there
        return None
    is_whole = all((directory.figures / name).exists() for name in names)
    return (names, lacking) if is_whole and noted.stat().st_mtime_ns == _newest(directory) else None


def _newest(directory: RunDirectory) -> int:
    """When the last of the files changed that figures are made from, in nanoseconds."""
    journals = [directory.training.path, *(one.path for one in directory.journals())]
    paths = filter(Path.exists, [*journals, *directory.snapshots.glob("*.safetensors")])
    return max((path.stat().st_mtime_ns for path in paths), default=0)


def report_simulation(directory: RunDirectory, console: Console) -> None:
    """Print what a completed simulation came to, in one line, and draw its figure."""
    from ncexp.report.figures import draw_simulation

    run = read_run(directory.path)
    first, last = run.records[0], run.records[-1]
    worst = max(record["train/theory/residual"] for record in run.records)
    console.print(
        f"{len(run.records)} times up to t = {last['train/path/time']:g}; simulation and closed form differ by at most "
        f"{worst:.1e} in log ω; NC1 falls from {first[NC1]:.3g} to {last[NC1]:.3g}",
        soft_wrap=True,
        markup=False,
    )
    console.print(f"figure    {draw_simulation(run, directory.figures)}", soft_wrap=True, markup=False)


def print_summary(console: Console, run: SavedRun) -> None:
    """Two tables: the catalogue's summary at three epochs, and the test errors of three classifiers side by side."""
    heads = _three_epochs(run)
    console.print(_numbers("on train features", heads, [name for name, _ in selected("summary")]))
    for line in figure_two(run):
        console.print(line, soft_wrap=True, markup=False)
    if ERROR in run.records[-1]:
        rows = [[head, *(_entry(record, name) for name in CLASSIFIERS.values())] for head, record in heads.items()]
        deciders = [*CLASSIFIERS][:2] if run.is_regression else [*CLASSIFIERS]
        head = "1 − R² on test of" if run.is_regression else "test error of"
        console.print(Table.of("", "", [head, *deciders], [row[: len(deciders) + 1] for row in rows]).terminal())
    for line in describe_doubts(run):
        console.print(line, soft_wrap=True, markup=False)


def print_measured(console: Console, run: SavedRun, names: Sequence[str]) -> None:
    """These numbers at three epochs; of many those first that the summary and the report show."""
    known = {name for place in PLACES for name, _ in selected(place)}
    chosen = sorted(names, key=lambda name: name not in known)
    if run.records and chosen:
        console.print(_numbers("measured", _three_epochs(run), chosen[:MOST_MEASURED]))
    if len(chosen) > MOST_MEASURED:
        console.print(f"and {len(chosen) - MOST_MEASURED} more: `ncexp export`, or ncexp.load(...).frame()")


def figure_two(run: SavedRun) -> list[str]:
    """HPD22 Figure 2's two claims as numbers, a line each; the fall is from zero error on, where it was reached."""
    if PERP not in run.records[-1]:
        return []
    if run.is_regression:
        epoch = small_perp_epoch(run)
        return [f"L_LS⊥     below L_LS/10 {'never' if math.isnan(epoch) else f'from epoch {epoch:.0f}'}"]
    epochs = [small_perp_epoch(run, TERMS[name]) for name in ("L_NC1", "L_NC1, data part")]
    of_all, of_data = ("never" if math.isnan(epoch) else f"from epoch {epoch:.0f}" for epoch in epochs)
    lines = [f"L_LS⊥     below L_NC1/10 {of_all}, below its data part/10 {of_data}"]
    if run.zero_error_epoch is not None:
        nc1, data, nc23, perp = (f"{rate_of_fall(run, term):.2f}" for term in TERMS.values())
        lines.append(f"fall      as epoch^p: L_NC1 {nc1} (data {data}), L_NC2/3 {nc23}, L_LS⊥ {perp}")
    return lines


def row_label(name: str, row: Quantity | None) -> str:
    """What a table of one run calls a number, short enough for 80 columns; train is named for loss and error alone."""
    if row is None or row.name.startswith(("layers/", "outside/")):
        return name
    return row.short if name.startswith("train/") and "/" in row.name else f"{name.partition('/')[0]} {row.short}"


def number(value: float, row: Quantity | None) -> str:
    """Three digits, or a share in percent; an undefined value in words."""
    if math.isnan(value):
        return "undefined"
    if row is None or not row.is_share:
        return f"{value:.3g}"
    return f"{100 * value:.3g}%" if row.is_log else f"{value:.2%}"


def _three_epochs(run: SavedRun) -> dict[str, Record]:
    """Heading → record; empty where zero error was not reached."""
    epochs = {"first epoch": run.records[0], "zero error": record_at(run, run.zero_error_epoch)}
    epochs["last epoch"] = run.records[-1]
    return {f"{head} ({one['epoch']:.0f})" if one else f"{head} (none)": one for head, one in epochs.items()}


def _numbers(title: str, heads: Mapping[str, Record], names: Iterable[str]) -> TerminalTable:
    """The numbers that one of these records has."""
    measured = [name for name in names if any(name in record for record in heads.values())]
    rows = [[row_label(name, find(name)), *(_entry(record, name) for record in heads.values())] for name in measured]
    return Table.of("", "", [title, *heads], rows).terminal()


def _entry(record: Record, name: str) -> str:
    return number(record[name], find(name)) if name in record else "–"
