"""What one run came to: its table, how it lies along the central path, its figures; and the same of a simulation."""

from __future__ import annotations

from rich.console import Console

from ncexp.measure import compare_with_path
from ncexp.record import RunDirectory, read_run, write_json
from ncexp.report.summary import print_summary


def report_run(directory: RunDirectory, console: Console, summary: bool = True, figures: bool = True) -> None:
    """The summary, then `draw_run` and what it returns, each if wanted."""
    if summary and (run := read_run(directory.path)).records:
        print_summary(console, run)
    for line in draw_run(directory) if figures else []:
        console.print(line, soft_wrap=True, markup=False)


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
    worst = max(record["train/theory/residual"] for record in run.records)
    console.print(
        f"{len(run.records)} times up to t = {last['train/path/time']:g}; simulation and closed form differ by at most "
        f"{worst:.1e} in log ω; NC1 falls from {first['train/collapse/nc1_trace']:.3g} "
        f"to {last['train/collapse/nc1_trace']:.3g}",
        soft_wrap=True,
        markup=False,
    )
    console.print(f"figure    {draw_simulation(run, directory.figures)}", soft_wrap=True, markup=False)
