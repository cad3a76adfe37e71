"""The rows of a training: the file to resume from holds them, and its journals are written from them.

An evaluated epoch is one commit: the file to resume from, with all rows so far, is written first, then the journals. So
a journal never holds what may be computed again, and a resumption writes each journal anew, whatever became of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ncexp.record.files import set_aside, write_atomically
from ncexp.record.journal import Journal, Record, encode_row, rows_by_epoch
from ncexp.record.run_directory import RunDirectory
from ncexp.record.tensor_file import UnusableFile, read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

#: Bytes of rows above which they move to a file that is written once, so that each file to resume from stays small. A
#: run of 350 evaluated epochs with 100 numbers has 1 MB.
LARGEST_TAIL = 2**22
#: What the tensors of rows are called, before the journal's path in the run's directory.
PREFIX = "rows/"


class TrainingRows:
    """The rows of one training, by the journal's path in the run's directory, as bytes of whole lines.

    The file to resume from holds the tail, the rows since the last part; a part is a file
    ``checkpoints/rows_0001.safetensors``. counted: how many rows each journal has had.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.counted: dict[str, int] = {}
        self._directory = directory
        self._tail: dict[str, bytearray] = {}  # to which a row is added without a copy of those before it
        self._new: dict[str, bytearray] = {}
        #: The rows that there are, of `counted`; the size of each journal as this process left it.
        self._there: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._own_parts: list[Path] = []

    def add(self, place: str, record: Record) -> None:
        """Add a row of the journal at this place; an epoch has one row, after those of earlier epochs."""
        self._extend(place, encode_row(record))
        self.counted[place] = self.counted.get(place, 0) + 1

    def tensors(self) -> dict[str, Tensor]:
        """The tail, as the file to resume from holds it; a long one is first moved to a part."""
        tensors = {PREFIX + place: _tensor(rows) for place, rows in self._tail.items() if rows}
        if sum(map(len, self._tail.values())) <= LARGEST_TAIL:
            return tensors
        path = self._directory.checkpoints / f"rows_{len(self._parts()) + 1:04d}.safetensors"
        write_tensors(path, tensors, "rows", self._directory.key)
        self._own_parts.append(path)
        self._tail = {}
        return {}

    def restore(
        self, places: Iterable[str], through: int, tail: Mapping[str, Tensor], counted: Mapping[str, int]
    ) -> list[str]:
        """Take the rows of the epochs up to `through` from the tail of a file to resume from, its parts, and journals.

        The journals, because `ncexp measure` may have added to them, and where a part is damaged. Damaged files are
        set aside; returns a sentence of each. places: the journals that will be written.
        """
        sentences: list[str] = []
        kept = [self._read_part(path, sentences) for path in self._parts()]
        saved = [{name: bytes(rows.numpy()) for name, rows in one.items()} for one in (*kept, tail)]
        written = {name.removeprefix(PREFIX) for one in saved for name in one}
        for place in sorted({*places, *written, *counted}):
            rows = self._read_journal(place, sentences)
            for one in saved:
                rows |= rows_by_epoch(one.get(PREFIX + place, b""))
            rows = {epoch: row for epoch, row in rows.items() if epoch <= through}
            if rows or counted.get(place):
                self._extend(place, b"".join(rows[epoch] for epoch in sorted(rows)))
                self.counted[place] = max(len(rows), counted.get(place, 0))
        return sentences

    def write_journals(self, last: bool = False) -> None:
        """Bring every journal up to these rows; a file that is not as this process left it is written whole.

        last: all are on the disk before this returns, so that the file to resume from is needed no more.
        """
        for place in self.counted if last else self._new:
            path, new = self._directory.path / place, self._new.get(place, b"")
            if place in self._sizes and path.exists() and path.stat().st_size == self._sizes[place]:
                with path.open("ab") as file:
                    file.write(new)
                    file.flush()
                    if last:
                        os.fsync(file.fileno())
                self._sizes[place] += len(new)
            else:
                whole = self._whole(place)
                write_atomically(path, lambda file, whole=whole: file.write(whole))  # type: ignore[misc]
                self._sizes[place] = len(whole)
        self._new = {}

    def records(self, place: str) -> list[Record]:
        """What the journal at this place holds after `write_journals`."""
        return Journal(self._directory.path / place).read()

    def lacking(self) -> str:
        """Which journals had more rows than there are now, in words; empty where none had."""
        return describe_lacking(self.counted, self._there)

    def _extend(self, place: str, rows: bytes) -> None:
        self._tail.setdefault(place, bytearray()).extend(rows)
        self._new.setdefault(place, bytearray()).extend(rows)
        self._there[place] = self._there.get(place, 0) + rows.count(b"\n")

    def _whole(self, place: str) -> bytes:
        rows: dict[int, bytes] = {}
        for path in self._own_parts:
            kept = self._read_part(path, []).get(PREFIX + place)
            rows |= {} if kept is None else rows_by_epoch(bytes(kept.numpy()))
        rows |= rows_by_epoch(bytes(self._tail.get(place, b"")))
        return b"".join(rows[epoch] for epoch in sorted(rows))

    def _parts(self) -> list[Path]:
        return sorted(self._directory.checkpoints.glob("rows_*.safetensors"))

    def _read_part(self, path: Path, sentences: list[str]) -> dict[str, Tensor]:
        try:
            return read_tensors(path, "rows", self._directory.key)[0]
        except UnusableFile as error:
            sentences.append(f"{error} It is {set_aside(path).name} now.")
            return {}

    def _read_journal(self, place: str, sentences: list[str]) -> dict[int, bytes]:
        path = self._directory.path / place
        try:
            return {int(record["epoch"]): encode_row(record) for record in Journal(path).read()}
        except ValueError as error:
            sentences.append(f"{str(error).removesuffix(' Set the file aside.')} It is {set_aside(path).name} now.")
            return {}


def count_rows(directory: RunDirectory) -> dict[str, int]:
    """How many rows each journal has, as status.json notes it at the end. Raises DamagedFile."""
    journals = [directory.training, *directory.journals()]
    return {str(one.path.relative_to(directory.path)): len(one.epochs()) for one in journals if one.path.exists()}


def describe_lacking(counted: Mapping[str, int], there: Mapping[str, int]) -> str:
    """
    >>> describe_lacking({"training.jsonl": 6, "measurements/errors_01.jsonl": 3}, {"training.jsonl": 4})
    'training.jsonl has 4 of 6 rows; measurements/errors_01.jsonl has 0 of 3 rows'
    """
    found = ((place, there.get(place, 0), count) for place, count in counted.items())
    return "; ".join(f"{place} has {now} of {count} rows" for place, now, count in found if now < count)


def _tensor(rows: bytearray) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(rows), dtype=torch.uint8)  # of a copy: a row may be added while it is written
