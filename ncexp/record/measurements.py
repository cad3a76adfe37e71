"""The folder measurements/ of a run: what each analysis found, a journal for every set of options.

Beside each `<analysis>_<key>.jsonl` lies `<analysis>_<key>.json` with what the key stands for. Where one analysis was
measured with several sets of options, that begun first keeps the plain names of its numbers; in the names of the others
the family bears the key: ``test/robustness.0123456789/ratio``. Of one set of options the latest version of the analysis
is read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncexp.config import Component
from ncexp.record.contents import read_measurement
from ncexp.record.files import DamagedFile, write_json
from ncexp.record.journal import Journal, Record


@dataclass(frozen=True)
class Measurement:
    """One journal: the analysis, its options and version, when it was begun, and under which names it is read."""

    analysis: str
    key: str
    target: str
    options: dict[str, Any]
    version: int
    began: float
    journal: Journal

    def records(self, plain: bool) -> Iterator[Record]:
        """The lines; not `plain`: with the key in the family of every name."""
        for record in self.journal.read():
            yield record if plain else {self._distinct(name): value for name, value in record.items()}

    def last(self, plain: bool) -> Record | None:
        """As `records`, the line of the last epoch; None where there is none."""
        record = self.journal.last()
        return record if plain or record is None else {self._distinct(name): value for name, value in record.items()}

    def _distinct(self, name: str) -> str:
        if name == "epoch":
            return name
        *place, quantity = name.split("/")
        split, family = "".join(place[:1]), "/".join(place[1:])
        return f"{split}/{family}.{self.key}/{quantity}" if family else f"{split}/{self.key}/{quantity}"


def journal_of(folder: Path, analysis: str, component: Component) -> Journal:
    """Where the numbers of this analysis with these options belong."""
    return Journal(folder / f"{analysis}_{component.key}.jsonl")


def begin(folder: Path, analysis: str, component: Component) -> Journal:
    """The journal, with what its key stands for written beside it, once."""
    journal = journal_of(folder, analysis, component)
    beside = journal.path.with_suffix(".json")
    if not beside.exists():
        content = {"analysis": analysis, "version": component.version, "began": time.time()}
        write_json(beside, {**content, "target": component.target, "options": component.options})
    return journal


def list_measurements(folder: Path) -> list[tuple[Measurement, bool]]:
    """Those to read, by analysis and by when they were begun; with each, whether its names are plain.

    Raises DamagedFile for a journal without, or with a damaged, description beside it.
    """
    latest: dict[tuple[str, str], Measurement] = {}
    for path in sorted(folder.glob("*.jsonl")):
        one = _described(path)
        options = (one.analysis, f"{one.target} {sorted(one.options.items())}")
        if options not in latest or latest[options].version < one.version:
            latest[options] = one
    ordered = sorted(latest.values(), key=lambda one: (one.analysis, one.began, one.key))
    first = {one.analysis: one for one in reversed(ordered)}
    return [(one, first[one.analysis] is one) for one in ordered]


def names_of(folder: Path, components: Mapping[str, Component]) -> list[str]:
    """The full names of the numbers that these analyses found last."""
    paths = {journal_of(folder, name, component).path for name, component in components.items()}
    found = [one.last(plain) or {} for one, plain in list_measurements(folder) if one.journal.path in paths]
    return [name for record in found for name in record if name != "epoch"]


def _described(path: Path) -> Measurement:
    """A journal and what its key stands for. Raises DamagedFile."""
    beside = path.with_suffix(".json")
    content = read_measurement(beside)
    if content is None:
        raise DamagedFile(f"{path}: expected {beside.name} beside it, got none. Set the file aside.")
    return Measurement(**content, key=path.stem.rpartition("_")[2], journal=Journal(path))
