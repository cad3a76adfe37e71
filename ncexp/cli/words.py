"""What several commands take and print: RUN, the folder of the runs, NAME=VALUE, and what could not be read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ncexp.record import State
from ncexp.record.text import say

#: Commands that Hydra composes: there the folder of the runs is a key, outputs=FOLDER; elsewhere an option.
COMPOSED = ("train", "measure", "simulate", "prepare")


def command_parser(command: str, text: str, runs: str = "") -> argparse.ArgumentParser:
    """A parser whose --help is this text as it stands, with its lines; runs: it takes RUN, ``*`` or ``+`` of them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=f"ncexp {command}", description=text, formatter_class=raw)
    if runs:
        parser.add_argument("runs", metavar="RUN", nargs=runs)
        add_outputs(parser)
    return parser


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """--outputs FOLDER; `with_outputs` makes it of outputs=FOLDER."""
    parser.add_argument(
        "--outputs", type=_folder, default=Path("outputs"), help="the folder of the runs; default: outputs"
    )
    # As compare and reference called it in version 0.2.
    parser.add_argument("--in", dest="outputs", type=_folder, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def with_outputs(command: str, words: Sequence[str]) -> list[str]:
    """The words of a command, with outputs=FOLDER and --outputs FOLDER written as the command reads it.

    >>> with_outputs("status", ["outputs=there", "last"]), with_outputs("measure", ["--outputs", "there", "last"])
    (['--outputs=there', 'last'], ['outputs=there', 'last'])
    """
    if command not in COMPOSED:
        return [f"--{word}" if word.startswith("outputs=") else word for word in words]
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--outputs":
            joined[-1] = f"outputs={word}"
        else:
            joined.append(word.removeprefix("--") if word.startswith("--outputs=") else word)
    return joined


def name_faults(faults: Iterable[str]) -> int:
    """Print what could not be read and was left out; returns the exit code: 0 where there is nothing."""
    code = 0
    for fault in faults:
        say(f"ncexp: left out: {fault}", sys.stderr)
        code = State.DAMAGED.exit_code
    return code


def pair(text: str) -> tuple[str, str]:
    """``epochs=350`` as name and value. Raises ValueError for a word without "="."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--where: expected NAME=VALUE, got {text!r}. As in --where epochs=350.")
    return name, value


def _folder(text: str) -> Path:
    return Path(text).expanduser()  # of outputs=~/runs the shell leaves ~
