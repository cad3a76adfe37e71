"""The folder measurements/ of a run: what each analysis found, a journal for every set of options.

Beside each `<analysis>_<key>.jsonl` lies `<analysis>_<key>.json` with what the key stands for. Where one analysis was
measured with several sets of options, that begun first keeps the names of its numbers; in the names of the others
the family bears the key: ``test/robustness.0123456789/ratio``. Of one set of options the latest version of the analysis
is read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ncexp.config import Component
from ncexp.record.contents import read_measurement
from ncexp.record.files import DamagedFile, write_json
from ncexp.record.journal import Journal, Record


@dataclass(frozen=True)
class Measurement:
    """One journal: the analysis, its options and version, and when it was begun.

    distinct: whether the names of its numbers bear the key.
    """

    analysis: str
    key: str
    target: str
    options: dict[str, Any]
    version: int
    began: float
    journal: Journal
    distinct: bool = False

    def records(self, only_last: bool = False) -> list[Record]:
        """The lines, as `Journal.read`; their numbers by the names under which they are read."""
        return [*map(self._named, self.journal.read(only_last))]

    def _named(self, record: Record) -> Record:
        return {self._with_key(name): value for name, value in record.items()} if self.distinct else record

    def _with_key(self, name: str) -> str:
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


def list_measurements(folder: Path) -> list[Measurement]:
    """Those to read, by analysis and by when they were begun.

    Raises DamagedFile for a journal without, or with a damaged, description beside it.
    """
    latest: dict[tuple[str, str], Measurement] = {}
    for path in sorted(folder.glob("*.jsonl")):
        beside = path.with_suffix(".json")
        if (content := read_measurement(beside)) is None:
            raise DamagedFile(f"{path}: expected {beside.name} beside it, got none. Set the file aside.")
        one = Measurement(**content, key=path.stem.rpartition("_")[2], journal=Journal(path))
        options = (one.analysis, f"{one.target} {sorted(one.options.items())}")
        if options not in latest or latest[options].version < one.version:
            latest[options] = one
    ordered = sorted(latest.values(), key=lambda one: (one.analysis, one.began, one.key))
    first = {one.analysis: one for one in reversed(ordered)}
    return [replace(one, distinct=first[one.analysis] is not one) for one in ordered]


def names_of(folder: Path, components: Mapping[str, Component]) -> list[str]:
    """The full names of the numbers that these analyses found last."""
    paths = {journal_of(folder, name, component).path for name, component in components.items()}
    read = (one for one in list_measurements(folder) if one.journal.path in paths)
    return [name for one in read for record in one.records(only_last=True) for name in record if name != "epoch"]
