"""What commands print on: text as it is. Paths and messages may hold [red] or :x:, which rich would take for markup."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console


def literal_console(**options: Any) -> Console:
    """A console without markup, emoji codes and highlighting; options: of rich's Console."""
    return Console(markup=False, emoji=False, highlight=False, **options)


def process_console() -> Console:
    """Of several processes that share a run the first prints."""
    return literal_console(quiet=not is_first_process())


def is_first_process() -> bool:
    """Of several processes that share a run, as torchrun's variable says; True where there is one."""
    return os.environ.get("RANK", "0") == "0"
