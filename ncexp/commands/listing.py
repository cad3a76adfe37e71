"""`ncexp list architecture`: every network's feature width, parameters and floating-point operations."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from ncexp.config import ConfigError


def main(arguments: list[str]) -> int:
    """Print the table for one input shape; answers 0, or 2 for an unknown network."""
    parser = argparse.ArgumentParser(
        prog="ncexp list", description="What the architectures amount to at an input shape; nothing is trained."
    )
    parser.add_argument("group", choices=["architecture"])
    parser.add_argument("names", nargs="*", help="some of them; default: all")
    parser.add_argument("--shape", type=int, nargs="+", default=[3, 32, 32], help="of one input; default: 3 32 32")
    parser.add_argument("--classes", type=int, default=10, help="default: 10")
    given = parser.parse_args(arguments)
    from ncexp.architectures.catalogue import describe_architectures, list_architectures  # torch: not for --help

    try:
        rows = describe_architectures(given.names or list_architectures(), tuple(given.shape), given.classes)
    except ConfigError as error:
        print(f"ncexp: {error}", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    console.print(f"inputs {tuple(given.shape)}, {given.classes} classes; Mflop of one example forward")
    table = Table("architecture", box=None, pad_edge=False)
    for heading in ("features", "parameters", "Mflop"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", ratio=1)
    for row in rows:
        size = row.size
        if size is None:
            table.add_row(row.name, "–", "–", "–", row.refusal)
        else:
            table.add_row(row.name, f"{size.num_features}", f"{size.num_parameters:,}", f"{size.flops / 1e6:,.1f}", "")
    console.print(table)
    return 0
