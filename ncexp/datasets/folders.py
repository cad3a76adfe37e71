"""Where the official files are searched, and where we may write: never into a folder that is not ours."""

from __future__ import annotations

import os
from pathlib import Path

#: The decoded data, in a folder of files that is ours.
DECODED = "ncexp_decoded"
#: What lies here belongs to the system's packages, whoever may write into it.
_SYSTEM = tuple(Path(folder) for folder in ("/usr", "/opt", "/nix", "/snap"))


def data_root(root: str | None) -> Path:
    """Where the files are: `root` if given, else the environment's NCEXP_DATA, else ./data."""
    return Path(root or os.environ.get("NCEXP_DATA") or "data").expanduser().absolute()


def is_ours(folder: Path) -> bool:
    """May we write there? It is the user's own, by owner and mode, and no folder of the system's packages."""
    resolved = folder.resolve()
    if not resolved.is_dir() or any(resolved.is_relative_to(system) for system in _SYSTEM):
        return False
    status = resolved.stat()
    return status.st_uid == os.geteuid() and bool(status.st_mode & 0o200) and os.access(resolved, os.W_OK | os.X_OK)


def decoded_folder(root: Path) -> Path | None:
    """Where decoded data are kept: beside the files, where the folder is ours or somebody prepared it for us as well.

    Else in the user's cache: $XDG_CACHE_HOME/ncexp, ~/.cache/ncexp. None: no such folder can be made.
    """
    beside = root / DECODED
    if is_ours(root) or (beside.is_dir() and os.access(beside, os.W_OK | os.X_OK) and not _is_read_only(beside)):
        return beside
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ncexp"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return cache if os.access(cache, os.W_OK | os.X_OK) else None


def _is_read_only(folder: Path) -> bool:
    """By its mode, which root's rights do not count against."""
    return not folder.stat().st_mode & 0o222
