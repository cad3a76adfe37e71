"""`ncexp export`: every measured value in one tidy table: run, epoch, split, metric, value."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ncexp.run_record import RunRecord, find_runs, read_run

HELP = """\
Write every value of the runs in DIR (default: outputs) as one table with a row a value. Columns: run (the key), name,
dataset, architecture, loss, lr, seed, state, epoch, split, metric, value. split is what stands before the slash in the
journal (train, test, mse, path, fit), metric what stands behind it. An undefined value is an empty field.
"""
COLUMNS = ("run", "name", "dataset", "architecture", "loss", "lr", "seed", "state", "epoch", "split", "metric", "value")
Row = tuple[str, str, str, str, str, float, int, str, int, str, str, float]


def main(arguments: list[str]) -> int:
    """Write the table; answers 0, or 2 where it cannot be."""
    parser = argparse.ArgumentParser(
        prog="ncexp export", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", metavar="DIR", nargs="*", type=Path, default=[Path("outputs")])
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="a .csv or .parquet file")
    chosen = parser.parse_args(arguments)
    writers = {".csv": write_csv, ".parquet": write_parquet}
    try:
        if chosen.to.suffix not in writers:
            raise ValueError(f"--to: expected a file in .csv or .parquet, got {chosen.to}. Name it so.")
        runs = map(read_run, find_runs(chosen.directories))
        count = writers[chosen.to.suffix](runs, chosen.to)
    except ValueError as error:
        print(f"ncexp export: {error}", file=sys.stderr)
        return 2
    print(f"{chosen.to}: {count} values")
    return 0


def rows(run: RunRecord) -> Iterator[Row]:
    """The run's values, by epoch, in the journal's order."""
    head = (run.key, run.name, *run.cell, run.rate, int(run.parameters["seed"]), run.state)
    for record in run.records:
        for name, value in record.items():
            if name != "epoch":
                split, _, metric = name.partition("/")
                yield (*head, int(record["epoch"]), split, metric, value)


def write_csv(runs: Iterable[RunRecord], path: Path) -> int:
    """All digits; answers the number of values."""
    count = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in runs:
            for row in rows(run):
                writer.writerow([*row[:-1], "" if math.isnan(row[-1]) else repr(row[-1])])
                count += 1
    return count


def write_parquet(runs: Iterable[RunRecord], path: Path) -> int:
    """A row group a run, undefined values as null; answers the number of values."""
    import pyarrow
    from pyarrow import parquet

    text, number = pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), pyarrow.float64()
    kinds = {"lr": number, "value": number, "seed": pyarrow.int64(), "epoch": pyarrow.int64()}
    schema = pyarrow.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for run in runs:
            columns = list(zip(*rows(run), strict=True))
            if columns:
                arrays = [
                    pyarrow.array(values, type=field.type, from_pandas=True)  # nan becomes null
                    for values, field in zip(columns, schema, strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
                count += len(columns[0])
    return count
