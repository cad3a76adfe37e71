"""`ncexp sync`: bring MLflow up to the journals, whatever happened to the runs or to the server meanwhile."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from ncexp.run_record import RunRecord, find_runs, read_run
from ncexp.tracking.mirror import Mirror
from ncexp.tracking.store import answers, not_from_here, tracking_uri

HELP = """\
Send MLflow what it does not have of the runs in DIR (default: outputs): runs that a dead server missed, jobs of a
cluster that kept a journal only, runs that were killed outright and would be shown as running for ever. Nothing is sent
twice; every point bears the time at which it was measured. May be repeated, and interrupted, at will.
"""


def main(arguments: list[str]) -> int:
    """Send all; answers 0, or 1 where something could not be sent, 2 where there is nothing to send from."""
    parser = argparse.ArgumentParser(
        prog="ncexp sync", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", metavar="DIR", nargs="*", type=Path, default=[Path("outputs")])
    parser.add_argument("--uri", help="an MLflow tracking URI; default: the one each run was configured with")
    chosen = parser.parse_args(arguments)
    try:
        runs = [read_run(path.absolute()) for path in find_runs(chosen.directories)]
    except ValueError as error:
        print(f"ncexp sync: {error}", file=sys.stderr)
        return 2
    silent: set[str] = set()
    told = Counter(_send(run, chosen.uri, silent) for run in runs)
    print(", ".join(f"{count} {what}" for what, count in sorted(told.items())))
    return 1 if told["not sent"] else 0


def _send(run: RunRecord, uri: str | None, silent: set[str]) -> str:
    """One run; answers what was done, as a word for the count at the end. A silent server is not asked again."""
    asked = run.raw["tracking"]
    if not asked["enabled"] and uri is None:
        return "not tracked (tracking.enabled=false)"
    uri = uri or tracking_uri(asked["uri"], run.path.parent)
    if reason := not_from_here(uri):
        print(f"{run.path.name}: {reason}", file=sys.stderr)
        return "not sent"
    if uri in silent:
        return "not sent"
    try:
        answer = Mirror(run.path, uri, asked["experiment"] or run.cell[0]).send()
    except Exception as error:
        print(f"{run.path.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        if uri.startswith("http") and not answers(uri):
            silent.add(uri)
        return "not sent"
    if answer == "sent":
        print(f"{run.path.name}: sent, {run.state}")
    return answer if answer != "deleted" else "left alone (deleted in MLflow)"
