"""`ncexp logs`: the ends of the logs of a sweep's runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ncexp.cli.status import parser
from ncexp.launching.states import fault_of, in_trouble, look
from ncexp.launching.sweep_directory import Entry, find_sweep, last_lines
from ncexp.record import DamagedFile, State
from ncexp.record.text import say


def main(arguments: list[str]) -> int:
    """Print the ends of the chosen logs; returns 0, 1 where a file of a run cannot be read, or 2 for no such run.

    Raises ValueError for no such sweep.
    """
    options = parser("logs", "The last lines of the logs of runs that did not succeed, or of RUN.")
    options.add_argument("run", metavar="RUN", nargs="*", help="its number, name, key, or a glob")
    options.add_argument("--lines", "-n", type=int, default=20, help="how many lines; default: 20")
    given = options.parse_args(arguments)
    sweep = find_sweep(given.outputs.absolute(), given.sweep)
    entries = chosen(sweep.entries(), given.run)
    faults = []
    for entry in entries:
        path, fault = sweep.log_of(entry), fault_of(entry.task)
        say(f"== {entry.title}  {path or ''}")
        try:
            lines = last_lines(path, given.lines) if path else ["(no log was written)"]
        except DamagedFile as error:
            lines, fault = [], fault or str(error)
        if fault:
            faults.append(fault)
            say(f"ncexp logs: {fault}", sys.stderr)
        say("\n".join(lines))
    if not entries:
        say("no such run" if given.run else "no run is in trouble; name one by its number", sys.stderr)
    if given.run and not entries:
        return 2
    return State.DAMAGED.exit_code if faults else 0


def chosen(entries: Sequence[Entry], words: Sequence[str]) -> list[Entry]:
    """Those of these numbers, names, keys, beginnings of either, or globs; without words, those in trouble."""
    if words:
        return [entry for entry in entries if any(_is_meant(entry, word) for word in words)]
    states = look(entries).states
    return [entry for entry in entries if in_trouble(states[entry.num])]


def _is_meant(entry: Entry, word: str) -> bool:
    if word.isdigit():
        return word == entry.key or int(word) == entry.num
    return any(fnmatchcase(name, f"{word}*") for name in (f"{entry.name}_{entry.key}", entry.title, entry.key))
