"""`ncexp sync`: MLflow brought up to the journals of stored runs."""

from __future__ import annotations

import argparse
import sys

from ncexp.cli.words import add_outputs
from ncexp.record import named_folders
from ncexp.record.text import say

HELP = """\
Send MLflow what it does not have of RUNs (folders, sweeps, names, keys, globs;
default: all runs and simulations in outputs): runs that a dead server missed,
jobs of a cluster that kept journals only, runs that were killed outright and
would be shown as running for ever, and what `ncexp measure` added. Nothing is
sent twice; every number bears the time at which its epoch ended. May be
repeated, and interrupted, at will.
"""


def main(arguments: list[str]) -> int:
    """Send all; returns 0, or 1 where something could not be sent, 2 where there is nothing to send from."""
    parser = argparse.ArgumentParser(
        prog="ncexp sync", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="*")
    add_outputs(parser)
    parser.add_argument(
        "--uri",
        help="an MLflow tracking URI; default: the store beside each run, or the one that it was configured with if "
        "MLFLOW_TRACKING_URI names the same",
    )
    chosen = parser.parse_args(arguments)
    from ncexp.tracking import sync_runs

    try:
        counts = sync_runs(named_folders(chosen.runs, chosen.outputs) or [chosen.outputs], chosen.uri)
    except ValueError as error:
        say(f"ncexp sync: {error}", sys.stderr)
        return 2
    say(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    return 1 if counts["not sent"] else 0
