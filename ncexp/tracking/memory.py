"""mlflow.json in a run directory: which run it is in each store, and what that store was sent.

Of every journal it holds the epochs that were sent, each with a checksum of its line. So a journal may gain lines at
any place, nothing is sent twice, and a line that is no longer what was sent is noticed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from ncexp.record import DamagedFile, Record, RunDirectory, read_json, set_aside, write_json
from ncexp.tracking.address import OF_TRAININGS, outputs_of, store_name

#: Where numbers come from: a file's name, or that of a single number → the records.
Sources = Mapping[str, list[Record]]


class Memory:
    """What one store was sent of one run; `content` is its part of mlflow.json."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    @property
    def run_id(self) -> str:
        """The run in the store; empty before the first upload."""
        return str(self.content.get("run_id", ""))

    def begin(self, experiment_id: str, run_id: str) -> None:
        """Forget all but the runs that were replaced: nothing was sent to this one."""
        superseded = {"superseded": self.superseded} if self.superseded else {}
        self.content.clear()
        self.content.update(experiment_id=experiment_id, run_id=run_id, tags=None, files={}, epochs={}, **superseded)

    @property
    def superseded(self) -> list[str]:
        """Runs that were replaced: an upload deletes them in the store, again where somebody has restored them."""
        found: list[str] = self.content.get("superseded", [])
        return found

    def supersede(self) -> None:
        """From now on the run is another one in the store; the present one is replaced."""
        superseded = [*self.superseded, *([self.run_id] if self.run_id else [])]
        self.content.clear()
        self.content["superseded"] = superseded

    def pending(self, sources: Sources) -> list[tuple[str, Record]]:
        """(source, record) of all that was not sent."""
        sent = self.content["epochs"]
        return [
            (source, record)
            for source, records in sources.items()
            for record in records
            if _epoch(record) not in sent.get(source, {})
        ]

    def mark(self, source: str, record: Record) -> None:
        """Note that this line was sent."""
        self.content["epochs"].setdefault(source, {})[_epoch(record)] = _checksum(record)

    def contradicts(self, sources: Sources) -> bool:
        """Whether something was sent that is no longer so: a line that was replaced, a journal that is not read now.

        A line that is missing does not count: a training that began anew will write it again.
        """
        for source, sent in self.content.get("epochs", {}).items():
            if source not in sources:
                if source.startswith("measurements/"):
                    return True
                continue
            if any(sent.get(_epoch(record), _checksum(record)) != _checksum(record) for record in sources[source]):
                return True
        return False


def read_memory(directory: RunDirectory) -> dict[str, dict[str, Any]]:
    """mlflow.json: store → what it was sent. A damaged file is set aside: the run is found by its identity."""
    try:
        stores = read_json(directory.tracking) or {}
    except DamagedFile:
        set_aside(directory.tracking)
        return {}
    if all(isinstance(content, dict) and _is_sound(content) for content in stores.values()):
        return stores
    set_aside(directory.tracking)
    return {}


def mark_superseded(directory: RunDirectory) -> None:
    """Before a run is trained anew: note, on disk only, that the next upload deletes its runs in MLflow."""
    stores = read_memory(directory)
    for content in stores.values():
        Memory(content).supersede()
    if stores:
        write_json(directory.tracking, stores)


def page_of(directory: RunDirectory, uri: str) -> str | None:
    """The run's page behind the address of the UI; None for a run that was never sent there."""
    content = read_memory(directory).get(store_name(uri, outputs_of(directory.path)), {})
    if "run_id" not in content:
        return None
    return f"#/experiments/{content['experiment_id']}/runs/{content['run_id']}?{OF_TRAININGS}"


def _is_sound(content: dict[str, Any]) -> bool:
    """Whether this can be what one store was sent: nothing yet, or a run with what it got."""
    kinds = {"experiment_id": str, "run_id": str, "files": dict, "epochs": dict}
    begun = not content.keys() - {"superseded"} or (
        "tags" in content
        and all(isinstance(content.get(name), kinds[name]) for name in kinds)
        and all(isinstance(sent, dict) for sent in content["epochs"].values())
    )
    superseded = content.get("superseded", [])
    return begun and isinstance(superseded, list) and all(isinstance(run, str) for run in superseded)


def _epoch(record: Record) -> str:
    return str(int(record["epoch"]))


def _checksum(record: Record) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
