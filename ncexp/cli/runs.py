"""`ncexp runs`, also `ncexp ls`: how each run stands and what it came to; `ncexp export`: all its numbers."""

from __future__ import annotations

import math
from pathlib import Path

from ncexp.cli.words import add_outputs, command_parser, name_faults, pair
from ncexp.record import SavedRun, State, format_counts, named_folders, read_all, select
from ncexp.record.files import replace_file
from ncexp.record.quantities import NC1, leading
from ncexp.record.saved_run import read_runs
from ncexp.record.text import csv_cell, say

HELP = """\
List runs, a line each: state, last trained epoch, test error and NC1 on train
features at the last evaluated epoch, name. A RUN is a folder, a sweep, a name,
a key, the beginning of either, or a glob ('digits-mlp*'); without any all runs
are listed. NAME=VALUE leaves those of this parameter: loss=mse lr=0.1 seed=0.
Only the ends of the journals are read.
"""
EXPORT = """\
Write every number of RUNs (folders, sweeps, names, keys, globs; default: all in
outputs) as one table with a row a number, as ncexp.load(...).frame(). Columns:
run (the key), dataset, architecture, loss, lr, seed, state, epoch, split,
family, quantity, value, doubt. An undefined value, and a rate or seed that is
not known, is an empty field; what there is not is none; the family of
test/error is errors.
"""


def main(arguments: list[str]) -> int:
    """Print the list; returns 0, or 1 where a run cannot be read or its journals lack what they had.

    Raises ValueError where there is no run, and for a parameter that none has.
    """
    parser = command_parser("runs", HELP)
    parser.add_argument("words", metavar="RUN | NAME=VALUE", nargs="*")
    parser.add_argument("--where", metavar="NAME=VALUE", action="append", default=[], help="the same, as for report")
    add_outputs(parser)
    given = parser.parse_intermixed_args(arguments)
    chosen = [word.removeprefix("where=") for word in given.words if "=" in word] + given.where
    named = [word for word in given.words if "=" not in word]
    found, faults = read_runs(named_folders(named, given.outputs) or [given.outputs], only_last=True)
    runs = select(found, dict(map(pair, chosen))) if chosen else found
    width = max((len(run.state) for run in runs), default=5)
    say(f"{'state':{width}}  epoch  test error        NC1  run")
    for run in runs:
        say(_line(run, width))
    say(f"{len(runs)} runs: {format_counts(run.state for run in runs)}")
    code = name_faults(faults)
    return State.DAMAGED.exit_code if any(run.state is State.DAMAGED for run in runs) else code


def _line(run: SavedRun, width: int) -> str:
    last = run.records[-1] if run.records else {}
    epoch = (run.training or run.records or [{}])[-1].get("epoch", "–")  # of another's training the last one measured
    error, nc1 = last.get("test/error", math.nan), last.get(leading(NC1).on(), math.nan)
    return (
        f"{run.state:{width}}  {epoch:>5}  {'–' if math.isnan(error) else f'{error:.2%}':>10}  "
        f"{'–' if math.isnan(nc1) else f'{nc1:.3g}':>9}  {run.path.name}"
    )


def export(arguments: list[str]) -> int:
    """Write the table; returns 0, or 1 where a run is left out as it cannot be read. Raises ValueError for no table."""
    parser = command_parser("export", EXPORT, runs="*")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="a .csv or .parquet file")
    given = parser.parse_args(arguments)
    if given.to.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--to: expected a file in .csv or .parquet, got {given.to}. Name it so.")
    runs = read_all(named_folders(given.runs, given.outputs) or given.outputs, {})
    frame = runs.frame()
    if given.to.suffix == ".csv":
        words = [name for name in frame if frame[name].dtype.kind == "O"]
        write = frame.assign(**{name: frame[name].map(csv_cell) for name in words}).to_csv
    else:
        write = frame.to_parquet
    try:
        replace_file(given.to, lambda file: write(file, index=False))
    except OSError as error:
        raise ValueError(f"--to: expected a file that can be written, got {error}. Name another.") from error
    say(f"{given.to}: {len(frame)} values")
    return name_faults(runs.faults)
