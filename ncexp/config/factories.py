"""Functions of somebody's own package, by their names."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

from ncexp.config.names import shown


def find_factory(group: str, name: str) -> Callable[..., Any]:
    """``my_package.make`` → the function. Raises ValueError, with the import's own cause, where there is none."""
    cause = ""
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        found, cause = None, f" ({error})"
    if not callable(found) or "." not in name:
        raise ValueError(
            f"{group}.factory: expected package.module.callable, got {shown(name)}{cause[:500]}. Check the "
            "spelling, and that the package is installed or its folder on PYTHONPATH."
        )
    return found
