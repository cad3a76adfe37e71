"""A run at a glance: how it stands, and the numbers of its last evaluated epoch, from the ends of its journals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncexp.record.contents import read_config, read_facts
from ncexp.record.files import DamagedFile
from ncexp.record.journal import Record
from ncexp.record.measurements import list_measurements
from ncexp.record.naming import find_runs
from ncexp.record.progress import counted
from ncexp.record.quantities import NC1, leading
from ncexp.record.run_directory import RunDirectory
from ncexp.record.saved_run import parameters_of, run_to_read
from ncexp.record.states import State

#: The analyses whose numbers are shown: of all runs, and of most.
ANALYSES = ("errors", "collapse")


@dataclass(frozen=True)
class Glance:
    """parameters, state: as of `SavedRun`; epoch: the last one trained, of another's training the last one measured;
    record: loss, error and collapse of the last evaluated epoch, empty before the first.

    A completed run whose journals do not reach its last epoch is damaged; what they lack amid is not seen.
    """

    path: Path
    parameters: Mapping[str, Any]
    state: State
    epoch: int | None
    record: Record

    @property
    def error(self) -> float:
        """On test; nan where there is none."""
        return self.record.get("test/error", math.nan)

    @property
    def nc1(self) -> float:
        """On train features; nan where it was not measured at that epoch."""
        return self.record.get(leading(NC1).on(), math.nan)


def glance_at_runs(folders: Iterable[Path]) -> tuple[list[Glance], list[str]]:
    """The runs among and under `folders`, and what is wrong with those that cannot be read.

    Raises ValueError for a folder without runs.
    """
    runs, faults = list[Glance](), list[str]()
    for path in counted(find_runs(folders), "runs looked at"):
        try:
            with run_to_read(path) as directory:
                runs.append(_glance(directory))
        except DamagedFile as error:
            faults.append(str(error))
    return runs, faults


def _glance(directory: RunDirectory) -> Glance:
    raw = read_config(directory.config)
    state = directory.actual_state() or State.NEW  # first: a final state says that all that follows is there
    ends = {directory.training.path.name: directory.training.last()}
    for one in list_measurements(directory.measurements):
        if one.analysis in ANALYSES and not one.distinct:
            ends[f"{directory.measurements.name}/{one.journal.path.name}"] = one.last()
    if state is State.COMPLETED:  # its last epoch was evaluated
        counted = directory.counted_rows()
        lasts = {place: end["epoch"] if end else 0 for place, end in ends.items() if counted.get(place)}
        if len({*lasts.values()}) > 1 or any(last < counted[place] for place, last in lasts.items()):
            state = State.DAMAGED
    trained, *evaluated = (end for end in ends.values())
    last = max((end["epoch"] for end in evaluated if end), default=None)
    record: Record = {}
    for end in evaluated:
        record |= end if end and end["epoch"] == last else {}
    facts = read_facts(directory.facts, sizes="simulation" not in raw)
    epoch = last if trained is None else trained["epoch"]
    return Glance(directory.path, parameters_of(raw, facts), state, None if epoch is None else int(epoch), record)
