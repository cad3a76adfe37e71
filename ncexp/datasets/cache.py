"""Decode once: a file that is written by one process and read by all, whole or not there; where, `folders` says."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ncexp.datasets.folders import DECODED, decoded_folder
from ncexp.record.files import remove_unfinished, write_atomically

#: Changes whenever what is stored, or how it is computed, changes: older files are then not found.
FORMAT = 2


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
    if (path := _kept(root, file)) is not None:
        return _read(path), path
    with locked(root, name):
        if (path := _kept(root, file)) is not None:  # another process was faster
            return _read(path), path
        content = build()
        if (folder := decoded_folder(root)) is None:
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
    folder = decoded_folder(root)
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


def _kept(root: Path, file: str) -> Path | None:
    """Beside the data, whoever prepared them, or in our own folder."""
    if (beside := root / DECODED / file).exists():
        return beside
    folder = decoded_folder(root)
    return folder / file if folder is not None and (folder / file).exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected decoded data, got {error}. Delete the file; it is made anew.") from error
    return content
