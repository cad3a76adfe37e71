"""How far work is that takes long: one live line on a terminal; elsewhere, a plain line now and then.

Everything is written to standard error: what a command returns stands on standard output alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

Item = TypeVar("Item", covariant=True)
#: How long work may take before anything is written of it, and then between two plain lines, in seconds.
QUIET_S, EVERY_S = 2.0, 30.0
#: Between two updates of the live line, in seconds.
REFRESH_S = 0.2
#: From the start of the line, and nothing after the cursor; without effect where it is empty already.
_CLEAR = "\r\x1b[K"


class SizedIterable(Sized, Iterable[Item], Protocol[Item]):
    """A list, a tuple, a dictionary."""


def counted(items: SizedIterable[Item], what: str) -> Iterator[Item]:
    """The items, one after another; meanwhile standard error says how many are done, the rate and the time left.

    what: what they are, in the plural. Nothing is written of work that is through within QUIET_S.
    """
    progress = Progress(len(items), what)
    try:
        for done, item in enumerate(items):
            progress.show(done)
            yield item
        progress.show(len(items))
    finally:
        progress.close()


class Progress:
    """One kind of work; `show` is called as often as one likes."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._begun = time.monotonic()
        self._live = sys.stderr.isatty()
        self._next = self._begun + QUIET_S
        self._shown = False

    def show(self, done: int) -> None:
        """Write that so many are done, where it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (REFRESH_S if self._live else EVERY_S)
        line = describe_progress(done, self._total, self._what, now - self._begun)
        sys.stderr.write(f"{_CLEAR}{line}" if self._live else f"{line}\n")
        sys.stderr.flush()
        self._shown = True

    def close(self) -> None:
        """Take the live line away: what follows says what came of it."""
        if self._live and self._shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def describe_progress(done: int, total: int, what: str, seconds: float) -> str:
    """How far it is after so many seconds, in at most 60 characters where `what` has at most 20.

    >>> describe_progress(3, 18, "runs", 6.0)
    '3 of 18 runs, 2 s each, 0:30 left'
    >>> describe_progress(300, 800, "batches", 6.0)
    '300 of 800 batches, 50 a second, 0:10 left'
    """
    if done == 0:
        return f"0 of {total} {what}"
    each = seconds / done
    return f"{done} of {total} {what}, {format_rate(each)}, {format_time(each * (total - done))} left"


def format_rate(each: float) -> str:
    """Seconds for one → the rate in words: ``2 s each``, or ``50 a second``."""
    return f"{each:.3g} s each" if each >= 1 else f"{1 / max(each, 1e-9):.3g} a second"


def format_time(seconds: float) -> str:
    """``0:07``, ``12:34``, ``3:12:34``, ``2 days 3:12:34``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours or days else f"{minutes}:{rest:02d}"
    return f"{days} day{'s' * (days > 1)} {clock}" if days else clock
