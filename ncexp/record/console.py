"""What commands print on, text as it is, and how far work is that takes long: one live line on a terminal; elsewhere,
plain lines.

Paths and messages may hold [red] or :x:, which rich would take for markup, and what a terminal would obey.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from ncexp.record.text import printable

Item = TypeVar("Item")
#: How long work may take before anything is written of it, and then between two plain lines, in seconds.
QUIET_S, EVERY_S = 2.0, 30.0
#: Between two updates of the live line, in seconds.
REFRESH_S = 0.2
#: The parts of the line in reading order, and the order in which they get room.
READING = ("count", "loss", "train", "test", "nc1", "rate", "left")
IMPORTANCE = ("count", "left", "rate", "loss", "nc1", "test", "train")
#: Rich's options under which text stays as it is.
LITERAL: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


class _PrintableConsole(Console):
    """Sends a terminal rich's own control characters, and no other."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for one in super().render(renderable, options):
            yield one if one.control else Segment(printable(one.text), one.style)


def literal_console(**options: Any) -> Console:
    """A console without markup, emoji codes and highlighting; options: of rich's Console."""
    return _PrintableConsole(**LITERAL, **options)


class _LastingConsole(_PrintableConsole):
    """Stops printing where the reader of the output has ended; rich's own ends the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def process_console() -> Console:
    """What a training prints on. It goes on where nobody reads that any more: its numbers are on the disk.

    Of several processes that share a run the first prints.
    """
    return _LastingConsole(**LITERAL, quiet=not is_first_process())


def is_first_process() -> bool:
    """Of several processes that share a run, as torchrun's variable says; True where there is one."""
    return os.environ.get("RANK", "0") == "0"


def counted(items: Collection[Item], what: str) -> Iterator[Item]:
    """The items, one after another; meanwhile standard error says how many are done, the rate and the time left.

    what: what they are, in the plural. Nothing is written of work that is through within QUIET_S.
    """
    with Progress(len(items), f"{{}} of {{}} {what}") as progress:
        for done, item in enumerate(items):
            progress.show(done)
            yield item
        progress.show(len(items))


class Progress:
    """One kind of work, a context manager around it; `show` is called as often as one likes.

    count: how many of how many, as in ``epoch {}/{}``. console: that of a run, whose line is there from the beginning
    and stays; None: standard error, from which it is taken away at the end, as what follows says what came of it.
    """

    def __init__(self, total: int, count: str, console: Console | None = None, done: int = 0) -> None:
        self._total, self._count = total, count
        self._parts = {"count": count.format(done, total)}
        self._first: tuple[int, float] | None = None
        self._console = console or literal_console(stderr=True)
        # A dumb terminal cannot go back to the line's beginning.
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=console is None,
            redirect_stdout=console is not None,  # else what a command returns would go to standard error
            redirect_stderr=console is not None,
            get_renderable=lambda: Text(fitting(self._parts, self._console.width), no_wrap=True),
        )
        self._every = REFRESH_S if self._is_live else math.inf if console else EVERY_S
        self._next = time.monotonic() + (QUIET_S if console is None else 0 if self._is_live else math.inf)
        self._begins_live = self._is_live and console is not None

    def __enter__(self) -> Self:
        if self._begins_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, done: int, line: bool = False, **parts: str) -> None:
        """So many are done. Written where it is time to, or, with `line`, also where there is no terminal.

        parts: what else is known, by its name in READING. The rate is that since the first call: a training's first
        epoch, which comes before it, pays for warming up.
        """
        now = time.monotonic()
        first, began = self._first = self._first or (done, now)
        self._parts |= {"count": self._count.format(done, self._total), **parts}
        if done > first:
            each = (now - began) / (done - first)
            self._parts |= {"rate": format_rate(each), "left": f"{format_time(each * (self._total - done))} left"}
        if now < self._next and not (line and not self._is_live):
            return
        self._next = now + self._every
        if self._is_live:
            self._live.start()
            self._live.refresh()
        else:
            self._console.print(fitting(self._parts, None), soft_wrap=True, markup=False)


def fitting(parts: Mapping[str, str], width: int | None) -> str:
    """The parts of the line that there is room for in `width` columns, in reading order; None: all.

    >>> fitting({"count": "epoch 9/350", "left": "0:12 left", "loss": "loss 1.0e-03", "rate": "3.1 s each"}, 40)
    'epoch 9/350  3.1 s each  0:12 left'
    """
    chosen: list[str] = []
    for name in IMPORTANCE:
        longer = [parts[one] for one in READING if one in (*chosen, name) and one in parts]
        if name in parts and (width is None or len("  ".join(longer)) <= width):
            chosen.append(name)
    return "  ".join(parts[name] for name in READING if name in chosen)


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
