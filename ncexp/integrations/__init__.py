"""Other people's training frameworks; each module is imported only by who uses that framework."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def installed(package: str) -> Iterator[None]:
    """Around the import of a framework. Raises ImportError with the command that installs it, where it is not there."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"ncexp.integrations.{package}: expected the package {package}, which is not installed ({error}). Install "
            f"it: pip install 'ncexp[{package}]'"
        ) from error
