"""mlflow.json in a run directory: which run it is in each store, and what that store was sent.

Of every journal it holds the epochs that were sent, each with a checksum of its line. So a journal may gain lines at
any place, nothing is sent twice, and a line that is no longer what was sent is noticed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ncexp.record import DamagedFile, Record, RunDirectory, read_json, set_aside
from ncexp.tracking.address import OF_TRAININGS, outputs_of, store_name

#: Where numbers come from: a journal's name, or that of a number made of several → its lines.
Sources = Mapping[str, list[Record]]


class Memory(BaseModel):
    """What one store was sent of one run. run_id: the run there, empty before the first upload; tags: a checksum of
    them; files: name → checksum; epochs: source → epoch → checksum of the line.
    """

    model_config = ConfigDict(strict=True)

    experiment_id: str = ""
    run_id: str = ""
    tags: int | None = None
    files: dict[str, int] = {}
    epochs: dict[str, dict[str, int]] = {}

    def forget(self) -> None:
        """Nothing was sent to the run that comes next."""
        self.run_id, self.tags, self.files, self.epochs = "", None, {}, {}

    def pending(self, sources: Sources) -> list[tuple[str, Record]]:
        """(source, line) of all that was not sent."""
        return [
            (source, line)
            for source, lines in sources.items()
            for line in lines
            if _epoch(line) not in self.epochs.get(source, {})
        ]

    def mark(self, source: str, line: Record) -> None:
        """Note that this line was sent."""
        self.epochs.setdefault(source, {})[_epoch(line)] = checksum(line)

    def contradicts(self, sources: Sources) -> bool:
        """Whether something was sent that is no longer so: a line that was replaced, a journal that is not read now.

        A line that is missing does not count: it may be written again.
        """
        gone = self.epochs.keys() - sources.keys()
        return any(source.startswith("measurements/") for source in gone) or any(
            self.epochs.get(source, {}).get(_epoch(line), checksum(line)) != checksum(line)
            for source, lines in sources.items()
            for line in lines
        )


def read_memory(directory: RunDirectory) -> dict[str, Memory]:
    """mlflow.json: store → what it was sent. A damaged file is set aside: the run is found by its identity."""
    try:
        return TypeAdapter(dict[str, Memory]).validate_python(read_json(directory.tracking) or {})
    except (DamagedFile, ValidationError):
        set_aside(directory.tracking)
        return {}


def page_of(directory: RunDirectory, uri: str) -> str | None:
    """The run's page behind the address of the UI; None for a run that was never sent there."""
    memory = read_memory(directory).get(store_name(uri, outputs_of(directory.path)), Memory())
    if not memory.run_id:
        return None
    return f"#/experiments/{memory.experiment_id}/runs/{memory.run_id}?{OF_TRAININGS}"


def checksum(content: Record | Mapping[str, str]) -> int:
    """Of a line, or of tags."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _epoch(line: Record) -> str:
    return str(int(line["epoch"]))
