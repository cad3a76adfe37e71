"""Workers of a sweep that train nothing: their runs end as a test says."""

from __future__ import annotations

import os
from pathlib import Path

from ncexp.launching.sweep_directory import Entry
from ncexp.record import State


class Scripted:
    """A worker whose runs end at once as `ends` says, or, where it says nothing, when they are stopped."""

    ends: dict[int, State | int]
    made: list[Scripted]

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment, self.calls = environment, list[object]()
        self.end: State | int | None = None
        self._always_readable = os.open(os.devnull, os.O_RDONLY)
        self.made.append(self)

    def begin(self, configuration: Path, log: Path) -> None:
        self.calls.append(int(configuration.stem))
        self.end = self.ends.get(int(configuration.stem))

    def stop(self) -> None:
        self.calls.append("stop")
        self.end = State.INTERRUPTED

    def poll(self) -> State | int | None:
        return self.end

    def dismiss(self) -> None:
        self.calls.append("dismiss")

    def close(self) -> None:
        os.close(self._always_readable)

    def fileno(self) -> int:
        return self._always_readable


def entries(folder: Path, count: int) -> list[Entry]:
    """Trainings in folder/0_0, folder/1_1, ..., each with a seed of its own."""
    places = [str(folder / f"{num}_{num}") for num in range(count)]
    return [
        Entry(num=num, name="a", key=str(num), directory=place, run=place, overrides=["epochs=9", f"seed={num}"])
        for num, place in enumerate(places)
    ]
