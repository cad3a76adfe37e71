"""`ncexp runs`, also `ncexp ls`: what runs there are, how each stands and what it came to, a line each."""

from __future__ import annotations

import math
import sys

from ncexp.cli.words import add_outputs, command_parser, pair
from ncexp.record import SavedRun, State, format_counts, named_folders, select
from ncexp.record.quantities import NC1, leading
from ncexp.record.saved_run import read_runs
from ncexp.record.text import say

HELP = """\
List runs, a line each: state, last trained epoch, test error and NC1 on train
features at the last evaluated epoch, name. A RUN is a folder, a sweep, a name,
a key, the beginning of either, or a glob ('digits-mlp*'); without any all runs
are listed. NAME=VALUE leaves those of this parameter: loss=mse lr=0.1 seed=0.
Only the ends of the journals are read.
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
    for fault in faults:
        say(f"ncexp runs: left out: {fault}", sys.stderr)
    return State.DAMAGED.exit_code if faults or State.DAMAGED in {run.state for run in runs} else 0


def _line(run: SavedRun, width: int) -> str:
    last = run.records[-1] if run.records else {}
    epoch = (run.training or run.records or [{}])[-1].get("epoch", "–")  # of another's training the last one measured
    error, nc1 = last.get("test/error", math.nan), last.get(leading(NC1).on(), math.nan)
    return (
        f"{run.state:{width}}  {epoch:>5}  {'–' if math.isnan(error) else f'{error:.2%}':>10}  "
        f"{'–' if math.isnan(nc1) else f'{nc1:.3g}':>9}  {run.path.name}"
    )
