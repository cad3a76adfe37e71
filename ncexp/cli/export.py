"""`ncexp export`: every recorded number in one table: run, epoch, split, family, quantity, value."""

from __future__ import annotations

import sys
from pathlib import Path

from ncexp.cli.words import add_outputs, command_parser
from ncexp.record import State, named_folders, read_all
from ncexp.record.files import replace_file
from ncexp.record.text import csv_cell, say

HELP = """\
Write every number of RUNs (folders, sweeps, names, keys, globs; default: all in
outputs) as one table with a row a number, as ncexp.load(...).frame(). Columns:
run (the key), dataset, architecture, loss, lr, seed, state, epoch, split,
family, quantity, value, doubt. An undefined value, and a rate or seed that is
not known, is an empty field; what there is not is none; the family of
test/error is errors.
"""


def main(arguments: list[str]) -> int:
    """Write the table; returns 0, 1 where a run is left out as it cannot be read, 2 where there is no table."""
    parser = command_parser("export", HELP)
    parser.add_argument("runs", metavar="RUN", nargs="*")
    add_outputs(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="a .csv or .parquet file")
    given = parser.parse_args(arguments)
    try:
        if given.to.suffix not in (".csv", ".parquet"):
            raise ValueError(f"--to: expected a file in .csv or .parquet, got {given.to}. Name it so.")
        runs = read_all(named_folders(given.runs, given.outputs) or given.outputs, {})
        frame = runs.frame()
        if given.to.suffix == ".csv":
            words = [name for name in frame if frame[name].dtype.kind == "O"]
            write = frame.assign(**{name: frame[name].map(csv_cell) for name in words}).to_csv
        else:
            write = frame.to_parquet
        replace_file(given.to, lambda file: write(file, index=False))
    except ValueError as error:
        say(f"ncexp export: {error}", sys.stderr)
        return 2
    except OSError as error:
        say(f"ncexp export: --to: expected a file that can be written, got {error}. Name another.", sys.stderr)
        return 2
    say(f"{given.to}: {len(frame)} values")
    for fault in runs.faults:
        say(f"ncexp export: left out: {fault}", sys.stderr)
    return State.DAMAGED.exit_code if runs.faults else 0
