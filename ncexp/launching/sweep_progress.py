"""What a person reads while a sweep is worked on here: a line when a task begins, when it ends, and when all stop."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from ncexp.launching.pool import Watcher
from ncexp.launching.sweep_directory import Entry
from ncexp.record import State, format_time


class SweepProgress(Watcher):
    """Lines of what begins and ends, with how many are done and the time left."""

    def __init__(self, console: Console, entries: Sequence[Entry]) -> None:
        self._console, self._total = console, len(entries)
        self._begun: list[Entry] = []
        self._done = 0
        self._working = 0
        self._stops = False
        self._start = time.monotonic()

    def begun(self, entry: Entry) -> None:
        """``run 3 of 18  007_digits-...``."""
        self._begun.append(entry)
        self._working += 1
        self._print(f"run {len(self._begun)} of {self._total} begins      {entry.title}")

    def ended(self, entry: Entry, state: State) -> None:
        """How it ended, and, while others are left, how long they will take at the rate of those that are done."""
        self._done += 1
        self._working -= 1
        left = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        more = f", {format_time(left)} left" if self._done < self._total and not self._stops else ""
        self._print(f"{self._done} of {self._total} done{more}: {state}  {entry.title}")

    def stopping(self) -> None:
        """At once, as what is asked to save itself takes seconds."""
        self._stops = True
        waiting = self._total - len(self._begun)
        self._print(
            f"stopping: {self._working} runs save themselves, {waiting} do not begin; Ctrl-C again ends them at once"
        )

    def _print(self, line: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}  {line}", soft_wrap=True, markup=False)
