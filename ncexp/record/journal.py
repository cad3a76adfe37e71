"""Numbers on disk, one JSON line per epoch: the truth, from which MLflow, frames and figures are fed.

A line is ``{"epoch": 3, "train/mse/loss": 0.12, ...}``; an undefined quantity is null, an infinite one "inf".
A journal holds nothing but what the configuration determines, so two equal runs have equal files. When each epoch ended
stands in the run's clock.jsonl, once per epoch and for good: a resumed run that trains an epoch again keeps its first
time.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any

from filelock import FileLock

from ncexp.record.array_rows import ArrayRows, Record
from ncexp.record.files import (
    LARGEST_JOURNAL,
    DamagedFile,
    open_file,
    parse_json,
    read_file,
    write_atomically,
)

#: The last epoch that anybody trains; the last millisecond of the year 9999, the last that calendars know.
LAST_EPOCH, LATEST_MS = 10**9, 253_402_300_799_999
#: Bytes of a journal's end, in which its last lines stand: of a thousand modes a line has 50 kB.
LONGEST_END = 2**18
_NUMBERS = {float, int, NoneType}


class Journal:
    """One file of lines by epoch; names of numbers are ``<split>/<family>/<quantity>``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, records: Iterable[Mapping[str, float]]) -> None:
        """Write all lines, in this order; on the disk before this returns."""
        text = b"".join(map(encode_row, records))
        write_atomically(self.path, lambda file: file.write(text))

    def put(self, record: Mapping[str, float], replace: bool = False) -> None:
        """Put a line in its place by epoch, on the disk before this returns.

        An epoch that is there stays as it is, unless it is to be replaced. Several processes may do this at once: what
        they compute of one epoch is the same.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):  # that of the folder may be held by the caller
            lines = {line["epoch"]: _decoded(line) for line in _lines_by_epoch(self.path)}
            epoch = int(record["epoch"])
            if replace or epoch not in lines:
                self.write({**lines, epoch: record}[one] for one in sorted({*lines, epoch}))

    def read(self, only_last: bool = False) -> list[Record]:
        """All whole lines, in order, undefined values as nan; an empty list before the first.

        only_last: of the last epoch at most; only the file's end is read.
        Raises DamagedFile, which names the file and the line, for a line that is no record.
        """
        return [_decoded(line) for line in (_last_line(self.path) if only_last else _lines_by_epoch(self.path))]

    def epochs(self) -> set[int]:
        """The epochs that have a line."""
        return {line["epoch"] for line in _lines_by_epoch(self.path)}


class Clock:
    """clock.jsonl: epoch → milliseconds since 1970 at which its training first ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[int] | None = None

    def note(self, epoch: int) -> None:
        """Note the time of this epoch's end, unless it was noted before."""
        if self._known is None:
            times = self.read()
            if times:  # without the half line that a kill may have left
                text = "".join(_line({"epoch": e, "timestamp_ms": ms}) for e, ms in times.items()).encode()
                write_atomically(self.path, lambda file: file.write(text))
            self._known = set(times)
        if epoch not in self._known:
            self._known.add(epoch)
            with self.path.open("ab") as file:
                file.write(_line({"epoch": epoch, "timestamp_ms": time.time_ns() // 1_000_000}).encode())

    def read(self) -> dict[int, int]:
        """Epoch → milliseconds since 1970. Raises DamagedFile."""
        lines = _whole_lines(self.path)
        for line in lines:
            time_ms = line.get("timestamp_ms")
            if time_ms.__class__ is not int or not 0 <= time_ms <= LATEST_MS:
                raise DamagedFile(
                    f"{self.path}: expected a time of epoch {line['epoch']}, got none. Set the file aside."
                )
        return {line["epoch"]: line["timestamp_ms"] for line in lines}


def column(records: Sequence[Record], name: str) -> list[float]:
    """The values of one quantity over the epochs; nan where a record lacks it."""
    if isinstance(records, ArrayRows):
        return records.column(name)
    return [record.get(name, math.nan) for record in records]


def encode_row(record: Mapping[str, float]) -> bytes:
    """The line of a record, its epoch first. JSON knows neither nan nor infinity."""
    values = {
        name: None if math.isnan(value) else str(value) if math.isinf(value) else value
        for name, value in record.items()
    }
    return _line({"epoch": 0} | values | {"epoch": int(record["epoch"])}).encode()


def rows_by_epoch(lines: bytes) -> dict[int, bytes]:
    """Whole lines of records → each by its epoch."""
    return {json.loads(line)["epoch"]: line for line in lines.splitlines(keepends=True)}


def _decoded(line: dict[str, Any]) -> Record:
    """The line as it is, but for values that JSON does not know: in most lines there is none."""
    for name, value in line.items():
        if value is None:
            line[name] = math.nan
        elif value.__class__ is str:
            line[name] = float(value)
    return line


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, allow_nan=False) + "\n"


def _lines_by_epoch(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal, in which an epoch has one line, after those of earlier epochs."""
    lines = _whole_lines(path)
    for number, (line, later) in enumerate(pairwise(lines), start=2):
        if line["epoch"] >= later["epoch"]:
            raise DamagedFile(
                f"{path}: expected an epoch after {line['epoch']} in line {number}, got {later['epoch']}. Set the file "
                "aside."
            )
    return lines


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that end in a newline: a kill can leave half a line behind, never a wrong one."""
    try:
        data = read_file(path, LARGEST_JOURNAL)
    except FileNotFoundError:
        return []
    raw = data[: data.rfind(b"\n") + 1].splitlines()
    lines = _parsed(b",".join(raw))  # by one call, which shares the names among them
    if lines is None or len(lines) != len(raw):
        number, line = next((number, line) for number, line in enumerate(raw, start=1) if len(_parsed(line) or ()) != 1)
        raise _no_record(path, f"line {number}", line)
    return lines


def _last_line(path: Path) -> list[dict[str, Any]]:
    """The last of `_whole_lines`, if there is one."""
    try:
        with open_file(path) as file:
            start = max(0, os.fstat(file.fileno()).st_size - LONGEST_END)
            file.seek(start)
            data = file.read(LONGEST_END)
    except FileNotFoundError:
        return []
    raw = data[: data.rfind(b"\n") + 1].splitlines()[1 if start else 0 :]
    if not raw:
        return _whole_lines(path)[-1:] if start else []
    if (lines := _parsed(raw[-1])) is None or len(lines) != 1:
        raise _no_record(path, "the last line", raw[-1])
    return lines


def _no_record(path: Path, place: str, line: bytes) -> DamagedFile:
    return DamagedFile(f"{path}: expected a record with its epoch in {place}, got {line[:60]!r}. Set the file aside.")


def _parsed(lines: bytes) -> list[dict[str, Any]] | None:
    """Lines with commas between them; None where one is no record."""
    try:
        contents: list[dict[str, Any]] = parse_json(b"[%s]" % lines)
    except ValueError:
        return None
    return contents if all(map(_is_record, contents)) else None


def _is_record(content: Any) -> bool:
    """The values by their classes: a sweep has millions of them, and True is no number."""
    if content.__class__ is not dict or content.get("epoch").__class__ is not int:
        return False
    known = 0 <= content["epoch"] <= LAST_EPOCH
    return known and all(value.__class__ in _NUMBERS or value in ("inf", "-inf") for value in content.values())
