"""Where the official files are searched, and where what is decoded of them is kept: never in a folder that is not ours.

A decoded file is written by one process and read by all; it is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ncexp.record.files import remove_unfinished, write_atomically

#: The decoded data, in a folder of files that is ours.
DECODED = "ncexp_decoded"
#: Changes whenever what is stored, or how it is computed, changes: older files are then not found.
FORMAT = 2
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
    return status.st_uid == os.geteuid() and bool(status.st_mode & 0o200) and _is_writable(resolved)


def load_or_build(
    root: Path, name: str, fingerprint: str, options: Mapping[str, Any], build: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], Path | None]:
    """What `build` returns (tensors and numbers by name), from the file that this or an earlier call left; that file.

    The file is known by `name`, the content's fingerprint and the options. It is searched beside the data, then in the
    user's cache. Of processes that start at once, one builds under a lock and the others wait for it. Where no folder
    may be written, nothing is kept, and there is no such file.

    Raises ValueError where there is no root, its own folder cannot be written or the file cannot be read.
    """
    identity = json.dumps([FORMAT, fingerprint, dict(options)], sort_keys=True)
    file = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.pt"
    if (kept := _kept(root, file)) is not None:
        return kept
    with locked(root, name):
        if (kept := _kept(root, file)) is not None:  # another process was faster
            return kept
        content = build()
        if (folder := _decoded_folder(root)) is None:
            return content, None
        remove_unfinished(folder, f"{name}-*")
        write_atomically(folder / file, lambda stream: torch.save(content, stream))
        return content, folder / file


@contextmanager
def locked(root: Path, name: str) -> Iterator[None]:
    """Alone among all processes of those who keep their decoded data in the same folder; the others wait.

    Raises ValueError where there is no such root or where nothing may be written into a folder of our own.
    """
    if not root.is_dir():
        raise ValueError(
            f"{name}: expected the folder {root}, got none. Run `ncexp prepare dataset={name}` where there is a "
            "network, or set NCEXP_DATA (or dataset.root) to the folder in which the files are."
        )
    folder = _decoded_folder(root)
    if folder is None:  # nothing is kept, so nobody waits
        yield
        return
    lock, is_new = FileLock(folder / f"{name}.lock"), not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise ValueError(
            f"{name}: expected to write the decoded data under {folder}, got {error}. Move away what is in the way, "
            "or free the disk."
        ) from error
    try:
        yield
    except BaseException:
        if is_new:  # what is refused leaves nothing behind
            Path(lock.lock_file).unlink(missing_ok=True)
            with suppress(OSError):  # another process has a file in there
                folder.rmdir()
        raise
    finally:
        lock.release()


def _decoded_folder(root: Path) -> Path | None:
    """Where decoded data are kept: beside the files, where the folder is ours or somebody prepared it for us as well.

    Else in the user's cache: $XDG_CACHE_HOME/ncexp, ~/.cache/ncexp. None: no such folder can be made.
    """
    beside = root / DECODED
    # By its mode too, which root's rights do not count against.
    if is_ours(root) or (beside.is_dir() and _is_writable(beside) and beside.stat().st_mode & 0o222):
        return beside
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ncexp"
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    return cache if _is_writable(cache) else None


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _kept(root: Path, file: str) -> tuple[dict[str, Any], Path] | None:
    """What is in the file and where it lies: beside the data, whoever prepared them, or in our own folder."""
    path = root / DECODED / file
    if not path.exists():
        folder = _decoded_folder(root)
        if folder is None or not (path := folder / file).exists():
            return None
    try:
        return torch.load(path, weights_only=True), path
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected decoded data, got {error}. Delete the file; it is made anew.") from error
