"""`ncexp export`: every recorded number in one table: run, epoch, split, family, quantity, value."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ncexp.record import State, read_all
from ncexp.record.files import replace_file

HELP = """\
Write every number of the runs in DIR (default: outputs) as one table with a
row a number: what ncexp.load(DIR).frame() returns. Columns: run (the key),
dataset, architecture, loss, lr, seed, state, epoch, split, family, quantity,
value. An undefined value is an empty field.
"""


def main(arguments: list[str]) -> int:
    """Write the table; returns 0, 1 where a run is left out as it cannot be read, 2 where there is no table."""
    parser = argparse.ArgumentParser(
        prog="ncexp export", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", metavar="DIR", nargs="*", default=["outputs"])
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="a .csv or .parquet file")
    given = parser.parse_args(arguments)
    try:
        if given.to.suffix not in (".csv", ".parquet"):
            raise ValueError(f"--to: expected a file in .csv or .parquet, got {given.to}. Name it so.")
        runs = read_all(given.directories, {})
        frame = runs.frame()
        write = frame.to_csv if given.to.suffix == ".csv" else frame.to_parquet
        replace_file(given.to, lambda file: write(file, index=False))
    except ValueError as error:
        print(f"ncexp export: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"ncexp export: --to: expected a file that can be written, got {error}. Name another.", file=sys.stderr)
        return 2
    print(f"{given.to}: {len(frame)} values")
    for fault in runs.faults:
        print(f"ncexp export: left out: {fault}", file=sys.stderr)
    return State.DAMAGED.exit_code if runs.faults else 0
