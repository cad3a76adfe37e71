"""Text for people. What files, folders and servers say is shown as it is, and no terminal obeys it."""

from __future__ import annotations

import sys
from typing import Any, TextIO


def printable(text: str) -> str:
    r"""The text with every character that a terminal may obey, or does not show, written out; lines stay lines.

    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t\xa0" else ascii(one)[1:-1] for one in text)


def say(text: object = "", to: TextIO | None = None, end: str = "\n") -> None:
    """Print it, `printable`; the one way in which a command prints, besides its console. to: standard output."""
    print(printable(str(text)), file=to or sys.stdout, end=end, flush=True)


def csv_cell(value: Any) -> Any:
    """A value as a cell of a CSV file: a word that spreadsheets would run as a formula begins with an apostrophe.

    >>> [csv_cell(value) for value in ("=1+1", "-0.5", "@a", "mse", -2.0)]
    ["'=1+1", '-0.5', "'@a", 'mse', -2.0]
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
