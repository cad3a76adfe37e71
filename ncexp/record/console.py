"""What commands print on: text as it is. Paths and messages may hold [red] or :x:, which rich would take for markup,
and what a terminal would obey.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from ncexp.record.text import printable

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
    """What a training prints on. It goes on where nobody reads that any more: its record is on the disk.

    Of several processes that share a run the first prints.
    """
    return _LastingConsole(**LITERAL, quiet=not is_first_process())


def is_first_process() -> bool:
    """Of several processes that share a run, as torchrun's variable says; True where there is one."""
    return os.environ.get("RANK", "0") == "0"
