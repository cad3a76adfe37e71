"""`ncexp status`: how a sweep stands, from its files and squeue alone, from any shell."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from ncexp.launching.states import tell_counts
from ncexp.launching.sweep_directory import SweepDirectory, find_sweep, sweeps
from ncexp.launching.waiting import look, print_table


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """The arguments that status, logs and cancel share."""
    made = argparse.ArgumentParser(prog=f"ncexp {command}", description=description)
    made.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of the runs; default: outputs")
    made.add_argument("sweep", metavar="SWEEP", nargs="?" if command == "status" else None,
                      help="its folder, its name or the beginning of it, or: last")  # fmt: skip
    return made


def chosen_sweep(outputs: Path, word: str) -> SweepDirectory | None:
    """The sweep that is meant; None, and the reason on stderr, where there is none."""
    try:
        return find_sweep(outputs.absolute(), word)
    except ValueError as error:
        print(f"ncexp: {error}", file=sys.stderr)
        return None


def main(arguments: list[str]) -> int:
    """Print the sweep's runs, or, without SWEEP, a line for each sweep; answers 0, or 2 for no such sweep."""
    options = parser("status", "How a sweep stands; without SWEEP, a line for each sweep.")
    options.add_argument("--all", action="store_true", help="completed and waiting runs as well")
    given = options.parse_args(arguments)
    console = Console(highlight=False)
    if given.sweep is None:
        for sweep in sweeps(given.outputs.absolute()):
            console.print(f"{sweep.path.name}: {tell_counts(look(sweep.entries()).values())}", soft_wrap=True)
        return 0
    chosen = chosen_sweep(given.outputs, given.sweep)
    if chosen is None:
        return 2
    print_table(console, chosen, look(chosen.entries()), every=given.all)
    return 0
