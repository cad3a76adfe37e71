"""A run's own record on disk: the truth, from which MLflow and the figures are fed.

journal.jsonl has one line per analysis epoch, ``{"epoch": 3, "train/nc1_trace": 0.12, ...}``; an undefined quantity is
null, an infinite one "inf". It holds nothing but what the configuration determines, so two equal runs have equal files.
When each line was written stands in clock.jsonl beside it, once per epoch and for good: a resumed run that writes a
line again keeps its first time.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncexp.files import write_atomically

Record = dict[str, float]


class Journal:
    """The two files of one run directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal.jsonl"
        self.clock_path = directory / "clock.jsonl"

    def append(self, record: Mapping[str, float]) -> None:
        """Add one epoch's line, on the disk before this returns; `record` holds "epoch"."""
        epoch = int(record["epoch"])
        if epoch not in self.timestamps():
            _append_line(self.clock_path, {"epoch": epoch, "timestamp_ms": time.time_ns() // 1_000_000})
        _append_line(self.path, {**{name: _encode(value) for name, value in record.items()}, "epoch": epoch})

    def read(self) -> list[Record]:
        """All whole lines, in order, undefined values as nan; an empty list before the first."""
        return [{name: _decode(value) for name, value in line.items()} for line in _whole_lines(self.path)]

    def timestamps(self) -> dict[int, int]:
        """Epoch → milliseconds since 1970 at which its line was first written."""
        return {line["epoch"]: line["timestamp_ms"] for line in _whole_lines(self.clock_path)}

    def rewind(self, epoch: int) -> None:
        """Drop what a killed run wrote after its last checkpoint, half-written lines included."""
        kept = [line for line in _whole_lines(self.path) if line["epoch"] <= epoch]
        write_atomically(self.path, lambda file: file.write("".join(_line(line) for line in kept).encode()))
        clock = _whole_lines(self.clock_path)
        write_atomically(self.clock_path, lambda file: file.write("".join(_line(line) for line in clock).encode()))


def column(records: list[Record], name: str) -> list[float]:
    """The values of one quantity over the epochs; nan where a record lacks it."""
    return [record.get(name, math.nan) for record in records]


def _encode(value: float) -> float | str | None:
    """JSON knows neither nan nor infinity."""
    return None if math.isnan(value) else str(value) if math.isinf(value) else value


def _decode(value: float | str | None) -> float:
    return math.nan if value is None else float(value) if isinstance(value, str) else value


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, allow_nan=False) + "\n"


def _append_line(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(_line(content).encode())
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that end in a newline: a kill can leave half a line behind, never a wrong one."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
