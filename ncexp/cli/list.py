"""`ncexp list`: the choices of a group, what the architectures amount to, and what every recorded number means."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.table import Table

from ncexp.cli.words import command_parser
from ncexp.config import ConfigError, nearest
from ncexp.config.installed import GROUPS, choices
from ncexp.record.console import literal_console
from ncexp.record.text import say

WHAT = ("quantities", *GROUPS)
HELP = """\
List what there is to choose from: the choices of a group, the architectures
with their sizes at an input shape (nothing is trained), or the quantities,
every number that is recorded, with what it means.
"""


def main(arguments: list[str]) -> int:
    """Print the list; returns 0. Raises ConfigError for an unknown word."""
    parser = command_parser("list", HELP)
    parser.add_argument("what", help=", ".join(WHAT))
    parser.add_argument("names", nargs="*", help="some of them, or families of quantities; default: all")
    parser.add_argument("--shape", type=int, nargs="+", default=[3, 32, 32], help="of one input; default: 3 32 32")
    parser.add_argument("--classes", type=int, default=10, help="default: 10")
    parser.add_argument("--markdown", action="store_true", help="of quantities: the text of docs/quantities.md")
    given = parser.parse_args(arguments)
    if given.what not in WHAT:
        raise ConfigError(f"list: expected something to list, got {given.what!r}. {nearest(given.what, WHAT)}")
    if given.what == "architecture":
        _print_architectures(given.names, tuple(given.shape), given.classes)
    elif given.what == "quantities":
        _print_quantities(given.names, given.markdown)
    else:
        _print_choices(given.what, given.names)
    return 0


def _print_architectures(names: list[str], shape: tuple[int, ...], classes: int) -> None:
    from ncexp.architectures.catalogue import describe_architectures  # torch: not for --help

    rows = describe_architectures(names or [*choices("architecture")], shape, classes)
    console = literal_console()
    console.print(f"inputs {shape}, {classes} classes; Mflop of one example forward")
    table = Table("architecture", box=None, pad_edge=False)
    for heading in ("features", "parameters", "Mflop"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", ratio=1)
    for name, size in rows.items():
        if isinstance(size, str):
            table.add_row(name, "–", "–", "–", size)
        else:
            table.add_row(name, f"{size.num_features}", f"{size.num_parameters:,}", f"{size.flops / 1e6:,.1f}", "")
    console.print(table)


def _print_quantities(chosen: list[str], markdown: bool) -> None:
    from ncexp.report.glossary import families, render_markdown, rows_of

    _check(chosen, families())
    if markdown:
        say(render_markdown(), end="")
        return
    table = Table("name", "splits", "label", "at collapse", "meaning", box=None, pad_edge=False)
    for row in rows_of(chosen):
        table.add_row(row.name, " ".join(row.splits), row.label, row.at_collapse, row.meaning)
    literal_console(width=None if sys.stdout.isatty() else 200).print(table)


def _print_choices(group: str, names: list[str]) -> None:
    files = choices(group)
    _check(names, [*files])
    width = max(map(len, files))
    for name in names or files:
        say(f"{name:<{width}}  {_first_comment(files[name])}".rstrip())


def _check(names: list[str], known: list[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"list: no such name, {unknown[0]!r}. {nearest(unknown[0], known)}")


def _first_comment(path: Path) -> str:
    """The first line of the file's comment; Hydra's own directives are none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ") and "@package" not in line), "")
