"""The last lines of a command: what its runs came to, how to go on where one did not end, and what people want next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from rich.console import Console

from ncexp.record import State

#: The words of the command that this process carries out, as they were typed; none in a process of a job.
TYPED: list[str] = []
#: After which states the same command does something: it goes on, or does again what failed.
LEFT = (State.FAILED, State.INTERRUPTED, State.KILLED, State.LOST, State.NEW)
#: Where commands look for runs by themselves.
DEFAULT = Path("outputs")


def print_next(console: Console, outputs: Path, what: Path) -> None:
    """Print the commands that show, measure further and report what was trained.

    what: the run's directory, or the folder of the sweep; outputs itself for a sweep without one.
    """
    place, measured = _typed(outputs), _typed(what)
    if outputs == DEFAULT.absolute() and what.parent == outputs:
        measured = what.name.rpartition("_")[2]  # the key: a run there is found by it
    commands = {
        f"ncexp ui {place}": "its curves in the browser",
        f"ncexp measure {measured} analysis=robustness": "one more analysis; nothing is trained",
        f"ncexp report {place if what.parent == outputs else measured}": "tables, figures and a page of many runs",
    }
    width = max(map(len, commands))
    for head, (command, meaning) in zip(("next", "", ""), commands.items(), strict=True):
        console.print(f"{head:9} {command:{width}}  # {meaning}", soft_wrap=True, markup=False)


def print_outcome_of(console: Console, runs: Iterable[Path], states: Collection[State]) -> None:
    """What the runs of one command came to, and the command that does what is left."""
    from ncexp.report import report_runs  # torch takes seconds

    report_runs(runs, console)
    print_repeat(console, states)


def print_repeat(console: Console, states: Collection[State]) -> None:
    """The command that was typed, where carrying it out again would do more."""
    if TYPED and any(state in LEFT for state in states):
        console.print(f"again     {shlex.join(['ncexp', *TYPED])}  # does what is left", soft_wrap=True, markup=False)


def _typed(path: Path) -> str:
    """As a person would type it here: from the present folder on where it lies below, in quotes where it needs them."""
    here = Path.cwd()
    return shlex.quote(os.path.relpath(path, here) if path.is_relative_to(here) else str(path))
