"""`ncexp logs`: the ends of the logs of a sweep's runs."""

from __future__ import annotations

import sys
from pathlib import Path

from ncexp.launching.status import chosen_sweep, parser
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.waiting import log_of, look

#: Of a sweep as a whole, the runs about which somebody asks.
TROUBLED = ("failed", "diverged", "lost", "interrupted", "unknown")


def main(arguments: list[str]) -> int:
    """Print the last lines of each chosen run's log; answers 0, or 2 where there is no such sweep or run."""
    options = parser("logs", "The last lines of the logs of runs that are in trouble, or of RUN.")
    options.add_argument("run", metavar="RUN", nargs="*", help="its number, or its key")
    options.add_argument("--lines", "-n", type=int, default=20, help="how many lines; default: 20")
    given = options.parse_args(arguments)
    sweep = chosen_sweep(given.outputs, given.sweep)
    if sweep is None:
        return 2
    entries = _chosen(sweep, given.run)
    for entry in entries:
        path = log_of(sweep, entry)
        print(f"== {entry.title}  {path}")
        print("\n".join(_last_lines(path, given.lines)))
    if not entries:
        print("no such run" if given.run else "no run is in trouble; name one by its number", file=sys.stderr)
    return 2 if given.run and not entries else 0


def _chosen(sweep: SweepDirectory, words: list[str]) -> list[Entry]:
    entries = sweep.entries()
    if words:
        numbers = {int(word) for word in words if word.isdigit()}
        return [entry for entry in entries if entry.num in numbers or entry.key in words]
    states = look(entries)
    return [entry for entry in entries if states[entry.num] in TROUBLED]


def _last_lines(path: Path, count: int) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-count:] if path.exists() else ["(no log was written)"]
