"""Decode once: a file under the data root that is written by one process and read by all, whole or not there."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ncexp.files import write_atomically

#: Changes whenever what is stored, or how it is computed, changes: older files are then not found.
FORMAT = 1
FOLDER = "ncexp_decoded"


def load_or_build(
    root: Path,
    name: str,
    fingerprint: Callable[[], str | None],
    options: Mapping[str, Any],
    build: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """What `build` answers (tensors and numbers by name), from the file that this or an earlier call left.

    The file is known by `name`, the content's fingerprint and the options. Of processes that start at once, one builds
    under a lock and the others wait for it. A fingerprint of None says that the content is not known before `build`.

    Raises ValueError where there is no root, its folder cannot be written or the file cannot be read.
    """
    path = _path(root, name, fingerprint(), options)
    if path is None or not path.exists():
        with locked(root, name):
            path = _build_unless_there(root, name, fingerprint, options, build)
    return _read(path)


@contextmanager
def locked(root: Path, name: str) -> Iterator[None]:
    """Alone among all processes that ask for this name under this root; the others wait.

    Raises ValueError where there is no such root or where nothing may be written under it.
    """
    if not root.is_dir():
        raise ValueError(
            f"{name}: expected the folder {root}, got none. Run `ncexp prepare dataset=...` where there is a network, "
            "or set NCEXP_DATA (or dataset.root) to the folder in which the files are."
        )
    lock = FileLock(root / FOLDER / f"{name}.lock")
    try:
        (root / FOLDER).mkdir(exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise ValueError(
            f"{name}: expected to write the decoded data under {root / FOLDER}, got {error}. Run `ncexp prepare` "
            "as somebody who may, or set NCEXP_DATA to a folder of your own with links to the files."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _build_unless_there(
    root: Path,
    name: str,
    fingerprint: Callable[[], str | None],
    options: Mapping[str, Any],
    build: Callable[[], dict[str, Any]],
) -> Path:
    path = _path(root, name, fingerprint(), options)
    if path is not None and path.exists():  # another process was faster
        return path
    content = build()
    path = _path(root, name, fingerprint(), options)
    assert path is not None, "the content is known once it was read"
    write_atomically(path, lambda file: torch.save(content, file))
    return path


def _path(root: Path, name: str, fingerprint: str | None, options: Mapping[str, Any]) -> Path | None:
    if fingerprint is None:
        return None
    identity = json.dumps([FORMAT, fingerprint, dict(options)], sort_keys=True)
    return root / FOLDER / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.pt"


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected decoded data, got {error}. Delete the file; it is made anew.") from error
    return content
