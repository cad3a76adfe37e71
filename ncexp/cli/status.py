"""`ncexp status`: how a sweep stands, from its files and squeue alone, from any shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

from rich.console import Console

from ncexp.cli.words import add_outputs
from ncexp.launching.states import look, state_of
from ncexp.launching.sweep_directory import SweepDirectory, find_sweep, sweeps
from ncexp.launching.table import print_table
from ncexp.record import DamagedFile, RunDirectory, State, format_counts
from ncexp.record.console import literal_console
from ncexp.record.text import say


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """The arguments that status, logs and cancel share."""
    made = argparse.ArgumentParser(prog=f"ncexp {command}", description=description)
    add_outputs(made)
    made.add_argument("sweep", metavar="SWEEP", nargs="?" if command == "status" else None,
                      help="its folder, its name or the beginning of it, or: last")  # fmt: skip
    return made


def main(arguments: list[str]) -> int:
    """Print the sweep's runs, or a line for each sweep; returns 0, or 1 where a file of one cannot be read.

    Raises ValueError for no such sweep.
    """
    options = parser("status", "How a sweep stands; without SWEEP, a line for each sweep.")
    options.add_argument("--all", action="store_true", help="completed and waiting runs as well")
    given = options.parse_args(arguments)
    console = literal_console()
    if given.sweep is None:
        known = sweeps(given.outputs.absolute())
        return max(map(_print_line, repeat(console), known)) if known else _say_what_there_is(given.outputs)
    sweep = find_sweep(given.outputs.absolute(), given.sweep)
    entries = sweep.entries()
    now = look(entries)
    print_table(console, sweep.path.name, sweep, entries, now, every=given.all)
    return _exit_code(now.states.values())


def _say_what_there_is(outputs: Path) -> int:
    """Of a folder without sweeps: its runs, and how they stand. Returns 0, or 1 where one cannot be read."""
    states = [state_of(RunDirectory(path.parent), None) for path in outputs.glob("*/config.yaml")]
    more = "`ncexp runs` lists them" if states else "`ncexp` trains one"
    say(f"no sweep in {outputs}; runs there: {format_counts(states)}; {more}")
    return _exit_code(states)


def _print_line(console: Console, sweep: SweepDirectory) -> int:
    try:
        entries = sweep.entries()
    except DamagedFile as error:
        say(f"ncexp status: {error}", sys.stderr)
        return State.DAMAGED.exit_code
    states = look(entries).states.values()
    console.print(f"{sweep.path.name}: {format_counts(states)}", soft_wrap=True, markup=False)
    return _exit_code(states)


def _exit_code(states: Iterable[State]) -> int:
    """How runs stand is no fault of this command; that it could not find out is."""
    return State.DAMAGED.exit_code if State.DAMAGED in states else 0
