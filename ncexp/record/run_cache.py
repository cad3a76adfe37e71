"""What was read of a run that has ended, beside its journals, so that it need not be parsed again.

The journals are the truth. The cache says of which files it was made, by size, time, and place on the disk, and by
which code; where any of it differs, or the file is damaged, it counts as not there. It is a safetensors file without
pickle: the rows as float64, all else as JSON. Nothing is written into a folder of somebody else, or that takes no
files; nothing where the journals are short, of which parsing is as fast.
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ncexp.record.array_rows import Alike, ArrayRows, Record
from ncexp.record.files import LARGEST_JOURNAL, read_file

NAME = ".read.safetensors"
#: Bytes of journals below which there is no cache.
FEWEST_BYTES = 2**15
#: A file that was changed so short a time ago may change again without another time.
YOUNG_NS = 2 * 10**9
#: The files, beside those in measurements/, of which a saved run is made.
_FILES = ("config.yaml", "facts.json", "status.json", "identity.json", "path_fit.json", "training.jsonl")
#: The entry of the file, two lines: of what it was made; the run without its rows.
_ENTRY = "ncexp"
#: File → size, time of change of its content and of anything, number on the disk.
Stamp = dict[str, list[int]]


class Measured(Mapping[str, Sequence[Record]]):
    """The rows of each measurement, chosen from all rows when they are asked for."""

    def __init__(self, records: ArrayRows, choices: Mapping[str, tuple[Mapping[int, list[int]], list[int]]]) -> None:
        self._records, self.choices = records, choices

    def __getitem__(self, place: str) -> Sequence[Record]:
        return self._records.chosen(*self.choices[place])

    def __iter__(self) -> Iterator[str]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)


def stamp(folder: Path) -> Stamp | None:
    """What the files of a run are now; None where there is one that cannot be looked at."""
    found: Stamp = {}
    try:
        with os.scandir(folder) as here:
            entries = [(entry.name, entry) for entry in here if entry.name in _FILES]
            names = {name for name, _ in entries}
        with suppress(FileNotFoundError), os.scandir(folder / "measurements") as here:
            ours = (entry for entry in here if entry.name.endswith((".json", ".jsonl")))
            entries += [(f"measurements/{entry.name}", entry) for entry in ours]
        for name, entry in entries:
            one = entry.stat()
            if not stat.S_ISREG(one.st_mode):
                return None
            found[name] = [one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino]
    except OSError:
        return None
    return found if "config.yaml" in names else None


def read_cache(folder: Path, now: Stamp) -> dict[str, Any] | None:
    """What was written of a run whose files are these; None where there is nothing that holds for them.

    training, records, measured and the rest by the names of `write_cache`.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        data = read_file(path, LARGEST_JOURNAL)
        begin = 8 + int.from_bytes(data[:8], "little")
        first, _, rest_of_run = json.loads(data[8:begin])["__metadata__"][_ENTRY].partition("\n")
        head = json.loads(first)
        if head["stamp"] != now or head["by"] != _code() or head["crc"] != zlib.crc32(memoryview(data)[begin:]):
            return None
        if head["words"] != zlib.crc32(rest_of_run.encode()):
            return None
        run: dict[str, Any] = json.loads(rest_of_run)
        rest = begin
        for name in ("training", "records"):
            run[name], rest = _rows(data, rest, run[name])
        choices = {
            place: ({int(kind): places for kind, places in names.items()}, rows)
            for place, (names, rows) in run["measured"].items()
        }
        return run | {"measured": Measured(run["records"], choices)}
    except Exception:  # whatever is in the file: the journals have it all
        return None


def packed(
    training: Sequence[Record], records: Sequence[Record], measured: Mapping[str, Sequence[Record]]
) -> tuple[ArrayRows, ArrayRows, Measured] | None:
    """The same as arrays, of a tenth of the size; None where they would not come back the same."""
    trained, merged = ArrayRows.of(training), ArrayRows.of(records)
    if trained is None or merged is None:
        return None
    choices = {place: choice for place, rows in measured.items() if (choice := _choice(merged, rows)) is not None}
    chosen = Measured(merged, choices)
    if choices.keys() != measured.keys() or any([*chosen[place]] != rows for place, rows in measured.items()):
        return None
    return trained, merged, chosen


def write_cache(
    folder: Path, then: Stamp, training: ArrayRows, records: ArrayRows, measured: Measured, **others: Any
) -> None:
    """Write what was read of files that were as `then`; nothing where it would not hold, or not come back the same."""
    lengths = [size for name, (size, *_) in then.items() if name.endswith(".jsonl")]
    youngest = max(changed for _, changed, *_ in then.values())
    if sum(lengths) < FEWEST_BYTES or time.time_ns() - youngest < YOUNG_NS or stamp(folder) != then:
        return
    if json.loads(json.dumps(others)) != others:
        return
    run = {**others, "training": _described(training), "records": _described(records), "measured": measured.choices}
    with suppress(OSError, ValueError):
        _write(folder, then, json.dumps(run), [*training.alike, *records.alike])


def _write(folder: Path, then: Stamp, run: str, tables: Sequence[Alike]) -> None:
    """Atomically, in a folder of this user; without waiting for the disk: a cut file is noticed, and made again."""
    if folder.stat().st_uid != os.geteuid() or not os.access(folder, os.W_OK):
        return
    from safetensors.numpy import save

    arrays = {f"{place:04d}": table.values for place, table in enumerate(tables)}
    crc = 0
    for array in arrays.values():
        crc = zlib.crc32(array.tobytes(), crc)
    head = {"stamp": then, "by": _code(), "crc": crc, "words": zlib.crc32(run.encode())}
    data = save(arrays, metadata={_ENTRY: f"{json.dumps(head)}\n{run}"})
    temporary = folder / f".{NAME}.{os.getpid()}.{threading.get_ident()}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(folder / NAME)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _described(rows: ArrayRows) -> dict[str, Any]:
    alike = [[one.names, one.whole, len(one.values)] for one in rows.alike]
    return {"alike": alike, "kinds": rows.kinds if len(alike) > 1 else []}


def _rows(data: bytes, begin: int, described: Mapping[str, Any]) -> tuple[ArrayRows, int]:
    """The rows whose arrays begin there, and where they end."""
    import numpy

    alike = []
    for names, whole, count in described["alike"]:
        values = numpy.frombuffer(data, "<f8", count * len(names), begin).reshape(count, len(names))
        alike.append(Alike(tuple(map(sys.intern, names)), tuple(whole), values))
        begin += values.nbytes
    kinds = described["kinds"] or [0] * sum(len(one.values) for one in alike)
    return ArrayRows(alike, kinds), begin


def _choice(merged: ArrayRows, rows: Sequence[Record]) -> tuple[dict[int, list[int]], list[int]] | None:
    """Where the rows of one measurement stand among all rows; None where they do not."""
    at = {int(epoch): row for row, epoch in enumerate(merged.column("epoch"))}
    chosen, names = [], dict[int, list[int]]()
    for record in rows:
        row = at.get(int(record["epoch"]))
        if row is None:
            return None
        chosen.append(row)
        known = merged.alike[merged.kinds[row]].names
        if merged.kinds[row] not in names:
            places = {name: place for place, name in enumerate(known)}
            if not record.keys() <= places.keys():
                return None
            names[merged.kinds[row]] = [places[name] for name in record]
    return names, chosen


@cache
def _code() -> list[Any]:
    """The version, and the files of the code that reads runs: what follows from a journal may change with them."""
    from importlib import metadata

    files = [(path.name, path.stat()) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return [metadata.version("ncexp"), sys.byteorder, [[name, one.st_size, one.st_mtime_ns] for name, one in files]]


def undefined(record: Mapping[str, float]) -> dict[str, float | None]:
    """A record as JSON takes it."""
    return {name: None if math.isnan(value) else value for name, value in record.items()}
