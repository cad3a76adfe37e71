"""What one run came to: its table, how it lies along the central path, its figures; and the same of a simulation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from ncexp.measure import compare_with_path
from ncexp.record import DamagedFile, RunDirectory, counted, read_run, write_json
from ncexp.record.quantities import NC1, leading
from ncexp.report.summary import print_measured, print_summary
from ncexp.report.verdict import print_verdict, verdict


def report_run(
    directory: RunDirectory,
    console: Console,
    summary: bool = True,
    figures: bool = True,
    measured: Sequence[str] = (),
) -> None:
    """The summary and `draw_run` with what it returns, each if wanted; the verdict.

    measured: names of numbers that are printed, too.
    """
    run = read_run(directory.path)
    if summary and run.records:
        print_summary(console, run)
    for line in draw_run(directory) if figures else []:
        console.print(line, soft_wrap=True, markup=False)
    print_measured(console, run, measured)
    print_verdict(console, verdict(run))


def report_runs(paths: Iterable[Path], console: Console) -> None:
    """What several runs came to: see `print_outcome`. One that cannot be read is named."""
    from ncexp.report.outcome import print_outcome  # SciPy takes half a second

    runs = []
    for path in counted([path for path in dict.fromkeys(paths) if (path / "config.yaml").exists()], "runs read"):
        try:
            runs.append(read_run(path))
        except DamagedFile as error:
            console.print(f"left out: {error}", soft_wrap=True, markup=False)
    print_outcome(console, runs)


def draw_run(directory: RunDirectory) -> list[str]:
    """Write path_fit.json, draw the figures; returns a line for people of each. Nothing where nothing was evaluated."""
    run = read_run(directory.path)
    if not run.records:
        return []
    from ncexp.report.figures import draw_figures  # matplotlib takes a second to import

    lines = []
    comparison = compare_with_path(run)
    if comparison is not None:
        write_json(directory.path_fit, comparison.to_json())
        lines.append(f"path      {comparison.sentence()}")
    return lines + [f"figure    {path}" for path in draw_figures(run, directory.figures, comparison)]


def report_simulation(directory: RunDirectory, console: Console) -> None:
    """Print what a completed simulation came to, in one line, and draw its figure."""
    from ncexp.report.figures import draw_simulation

    run = read_run(directory.path)
    first, last = run.records[0], run.records[-1]
    nc1, worst = leading(NC1).on(), max(record["train/theory/residual"] for record in run.records)
    console.print(
        f"{len(run.records)} times up to t = {last['train/path/time']:g}; simulation and closed form differ by at most "
        f"{worst:.1e} in log ω; NC1 falls from {first[nc1]:.3g} "
        f"to {last[nc1]:.3g}",
        soft_wrap=True,
        markup=False,
    )
    console.print(f"figure    {draw_simulation(run, directory.figures)}", soft_wrap=True, markup=False)
