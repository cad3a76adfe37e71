"""Files that are whole or not there: write beside, flush to the disk, rename. And what is said of one that is not."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from ncexp.config import ConfigError

#: ``.NAME.<process>.<thread>``: what `write_atomically` calls a file that is not whole yet.
_UNFINISHED = re.compile(r"\..+\.\d+\.\d+", re.DOTALL)


class DamagedFile(ValueError):
    """A file of a record that cannot be read; the message names it and says what to do."""


class UnusableFolder(ConfigError):
    """A folder to work in that takes no files, or that no process can be alone in."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it onto `path`: a reader sees the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with _open_held(temporary) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk must not fill up with attempts
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself is durable only once the folder is
    finally:
        os.close(folder)


def acquire(lock: FileLock, timeout: float = -1) -> None:
    """Make the lock's folder, and hold the lock.

    Raises filelock's Timeout; UnusableFolder where no file can be made there, or the file system has no locks.
    """
    path = Path(lock.lock_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:  # an OSError as well
        raise
    except OSError as error:
        raise UnusableFolder(
            f"{path.parent}: expected a folder that takes files and locks, got {error.strerror}. Copy what is there to "
            "another one, or name another as outputs."
        ) from error


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """As `write_atomically`, of a file that lies among others' files, where nobody else removes what is unfinished."""
    remove_unfinished(path.parent, f"{glob.escape(path.name)}.*")
    write_atomically(path, write)


def replace_text(path: Path, text: str) -> None:
    """`text` in UTF-8, as `replace_file`."""
    replace_file(path, lambda file: file.write(text.encode()))


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what processes that were killed amid writing a file of this name, or pattern, left in a folder.

    A file that is being written is held by its writer, on whatever machine that runs; it is left alone.
    """
    for path in folder.glob(f".{name}"):
        if _UNFINISHED.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError), path.open("rb+") as file:  # of a file system without locks nobody can tell
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)


def _open_held(temporary: Path) -> BinaryIO:
    """A new file, held until it is closed, by which `remove_unfinished` knows it from one that is nobody's any more."""
    while True:
        file = temporary.open("wb")
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():  # it was not removed before it was held
            return file
        file.close()


def write_text(path: Path, text: str) -> None:
    """`text` in UTF-8, atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file. Raises DamagedFile for any other content."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path}: expected JSON, got a damaged file ({error}). Set it aside.") from None
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: expected a JSON object, got {str(content)[:60]!r}. Set it aside.")
    return content


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used to one that nobody reads, beside it; returns the new name. Nothing is lost."""
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged{number}")
    path.rename(aside)
    return aside
