"""`ncexp status`, `logs` and `cancel`: how a sweep stands, from its files and squeue alone, from any shell; its end."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ncexp.cli.words import add_outputs, name_faults
from ncexp.launching.slurm import SlurmUnavailable
from ncexp.launching.states import fault_of, in_trouble, look, state_of
from ncexp.launching.submission import cancel_sweep
from ncexp.launching.sweep_directory import Entry, SweepDirectory, find_sweep, last_lines, sweeps
from ncexp.launching.table import print_table
from ncexp.record import DamagedFile, RunDirectory, State, format_counts
from ncexp.record.console import literal_console
from ncexp.record.text import say


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"ncexp {command}", description=description)
    add_outputs(made)
    made.add_argument("sweep", metavar="SWEEP", nargs="?" if command == "status" else None,
                      help="its folder, its name or the beginning of it, or: last")  # fmt: skip
    return made


def _sweep(given: argparse.Namespace) -> SweepDirectory:
    return find_sweep(given.outputs.absolute(), given.sweep)


def main(arguments: list[str]) -> int:
    """`ncexp status`: print the sweep's runs, or a line for each sweep; returns 0, or 1 where a file cannot be read.

    Raises ValueError for no such sweep.
    """
    options = _parser("status", "How a sweep stands; without SWEEP, a line for each sweep.")
    options.add_argument("--all", action="store_true", help="completed and waiting runs as well")
    given = options.parse_args(arguments)
    if given.sweep is None:
        known = sweeps(given.outputs.absolute())
        return max(map(_print_line, known)) if known else _say_what_there_is(given.outputs)
    sweep = _sweep(given)
    entries = sweep.entries()
    now = look(entries)
    print_table(literal_console(), sweep.path.name, sweep, entries, now, every=given.all)
    return _exit_code(now.states.values())


def _say_what_there_is(outputs: Path) -> int:
    """Of a folder without sweeps: its runs, and how they stand. Returns 0, or 1 where one cannot be read."""
    states = [state_of(RunDirectory(path.parent), None) for path in outputs.glob("*/config.yaml")]
    more = "`ncexp runs` lists them" if states else "`ncexp` trains one"
    say(f"no sweep in {outputs}; runs there: {format_counts(states)}; {more}")
    return _exit_code(states)


def _print_line(sweep: SweepDirectory) -> int:
    try:
        states = look(sweep.entries()).states.values()
    except DamagedFile as error:
        return name_faults([str(error)])
    say(f"{sweep.path.name}: {format_counts(states)}")
    return _exit_code(states)


def _exit_code(states: Iterable[State]) -> int:
    """How runs stand is no fault of this command; that it could not find out is."""
    return State.DAMAGED.exit_code if State.DAMAGED in states else 0


def logs(arguments: list[str]) -> int:
    """`ncexp logs`: print the ends of logs; returns 0, 1 where a file of a run cannot be read, 2 for no such run.

    Raises ValueError for no such sweep.
    """
    options = _parser("logs", "The last lines of the logs of runs that did not succeed, or of RUN.")
    options.add_argument("run", metavar="RUN", nargs="*", help="its number, name, key, or a glob")
    options.add_argument("--lines", "-n", type=int, default=20, help="how many lines; default: 20")
    given = options.parse_args(arguments)
    sweep = _sweep(given)
    entries = chosen(sweep.entries(), given.run)
    if not entries and given.run:
        raise ValueError(f"RUN: expected a run of {sweep.path.name}, got no such run. Name one by its number.")
    if not entries:
        say("no run is in trouble; name one by its number")
    code = 0
    for entry in entries:
        path, fault = sweep.log_of(entry), fault_of(entry.task)
        say(f"== {entry.title}  {path or ''}")
        try:
            lines = last_lines(path, given.lines) if path else ["(no log was written)"]
        except DamagedFile as error:
            lines, fault = [], fault or str(error)
        code = max(code, name_faults([fault] if fault else []))
        say("\n".join(lines))
    return code


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


def cancel(arguments: list[str]) -> int:
    """`ncexp cancel`: end what a sweep still has in the queue or trains here; every run saves itself.

    Returns 0, or 1 where a file of a run cannot be read: whether it runs is not known. Raises ValueError for no such
    sweep, SlurmUnavailable where SLURM does not respond.
    """
    sweep = _sweep(_parser("cancel", "End the sweep's jobs; running ones save themselves first.").parse_args(arguments))
    try:
        count, faults = cancel_sweep(sweep, say)
    except SlurmUnavailable as error:
        raise SlurmUnavailable(f"{error} The sweep's jobs go on; cancel again once SLURM responds.") from None
    say(f"{count} jobs are being ended; the same command as before goes on with what is not finished")
    return name_faults([*faults, *(fault for entry in sweep.entries() if (fault := fault_of(entry.task)))])
