"""`ncexp sync`: MLflow brought up to the journals of stored runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ncexp.cli.words import command_parser
from ncexp.record import named_folders
from ncexp.record.text import say

HELP = """\
Send MLflow what it does not have of RUNs (folders, sweeps, names, keys, globs;
default: all runs and simulations in outputs): runs that a dead server missed,
jobs of a cluster that kept journals only, runs that were killed outright and
would be shown as running for ever, and what `ncexp measure` added. Nothing is
sent twice; every number bears the time at which its epoch ended. May be
repeated, and interrupted, at will. With --follow it goes on while one of RUNs
is trained, and sends what is new.
"""


def main(arguments: list[str]) -> int:
    """Send all; returns 0, or 1 where something could not be sent. Raises ValueError for nothing to send from."""
    parser = command_parser("sync", HELP, runs="*")
    parser.add_argument("--follow", action="store_true", help="go on until none of RUNs is trained any more")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # whose runs the lines of standard input name
    parser.add_argument(
        "--uri",
        help="an MLflow tracking URI; default: the store beside each run, or the one that it was configured with if "
        "MLFLOW_TRACKING_URI names the same",
    )
    chosen = parser.parse_args(arguments)
    from ncexp.tracking import follow_runs, sync_runs

    if chosen.parent:
        counts = follow_runs((Path(line.removesuffix("\n")) for line in sys.stdin), chosen.uri, chosen.parent)
    else:
        folders = named_folders(chosen.runs, chosen.outputs) or [chosen.outputs]
        counts = (follow_runs if chosen.follow else sync_runs)(folders, chosen.uri)
    say(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    return 1 if counts["not sent"] else 0
