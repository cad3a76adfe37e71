"""The last lines of a command: the three that people want next."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from rich.console import Console

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


def _typed(path: Path) -> str:
    """As a person would type it here: from the present folder on where it lies below, in quotes where it needs them."""
    here = Path.cwd()
    return shlex.quote(os.path.relpath(path, here) if path.is_relative_to(here) else str(path))
