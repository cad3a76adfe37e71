"""`ncexp compare`: a few runs side by side: what was chosen differently, and what came of it."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ncexp.run_record import RunRecord, pick_run, read_run
from ncexp.summary import ROWS, zero_error_epoch

HELP = """\
Show runs side by side: the parameters in which they differ, the state, the epoch of zero error, and every number of the
summary at the last epoch that all have in common (so that a run in progress compares with one that is done). A RUN is a
folder, or the beginning of its name or of its key.
"""


def main(arguments: list[str]) -> int:
    """Print the comparison; answers 0, or 2 where a run is not found."""
    parser = argparse.ArgumentParser(
        prog="ncexp compare", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--in", dest="folder", type=Path, default=Path("outputs"), help="where they lie (outputs)")
    chosen = parser.parse_args(arguments)
    try:
        runs = [read_run(pick_run(name, chosen.folder)) for name in chosen.runs]
    except ValueError as error:
        print(f"ncexp compare: {error}", file=sys.stderr)
        return 2
    Console(highlight=False, width=None if sys.stdout.isatty() else 40 + 22 * len(runs)).print(comparison(runs))
    return 0


def comparison(runs: list[RunRecord]) -> Table:
    """A column a run; first what differs in the choices, then the numbers at the last common epoch."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for run in runs:
        table.add_column(run.key, justify="right")
    for name in differing(runs):
        table.add_row(name, *(_text(run.choices.get(name)) for run in runs))
    table.add_row("state", *(run.state for run in runs))
    table.add_row("zero error at epoch", *(_text(zero_error_epoch(run.records)) for run in runs), end_section=True)
    epoch = last_common_epoch(runs)
    if epoch is None:
        table.add_row("no epoch in common", *("" for _ in runs))
        return table
    table.add_row(f"at epoch {epoch}", *("" for _ in runs), style="bold")
    at_epoch = [next(record for record in run.records if record["epoch"] == epoch) for run in runs]
    for label, name in ROWS.items():
        values = [record.get(name, math.nan) for record in at_epoch]
        if not all(map(math.isnan, values)):
            table.add_row(label, *(_text(value) for value in values))
    return table


def differing(runs: list[RunRecord]) -> list[str]:
    """The choices that are not the same in all runs; lr stands for optimizer.lr."""
    names = dict.fromkeys(name for run in runs for name in run.choices if name != "optimizer.lr")
    return [name for name in names if len({str(run.choices.get(name)) for run in runs}) > 1]


def last_common_epoch(runs: list[RunRecord]) -> int | None:
    """The last analysis epoch that every run has on record; None where there is none."""
    common = set.intersection(*({int(record["epoch"]) for record in run.records} for run in runs))
    return max(common, default=None)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
