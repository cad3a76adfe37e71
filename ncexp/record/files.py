"""Files that are whole or not there: write beside, flush to the disk, rename. And what is said of one that is not.

A run may come from anybody, so one function reads its files, and it waits for nothing: what is not a regular file, or
is larger than any file of its kind, is refused; so is content that could not be written down again.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from ncexp.config import ConfigError

#: ``.NAME.<process>.<thread>``: what `write_atomically` calls a file that is not whole yet.
_UNFINISHED = re.compile(r"\..+\.\d+\.\d+", re.DOTALL)
#: Bytes. The largest of our own: a closed form's fit to a thousand modes at hundreds of epochs; a journal of as many.
LARGEST_FILE, LARGEST_JOURNAL = 2**26, 2**30
#: How deep lists and mappings are nested, how many values they hold, and the digits of a whole number: far more than
#: any file has.
DEEPEST, MOST_VALUES, MOST_DIGITS = 40, 5_000_000, 19


class DamagedFile(ValueError):
    """A file of a run that cannot be read; the message names it and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message.encode(errors="backslashreplace").decode())  # of names that are no text


def open_file(path: Path) -> BinaryIO:
    """A regular file, open to read. Raises FileNotFoundError; DamagedFile, at once, for a pipe, a device, a folder."""
    try:
        _refuse_other_kinds(path, path.stat())  # first: to open a device may do something
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFile(
            f"{path}: expected a file that can be read, got: {error.strerror}. Make it readable."
        ) from None
    _refuse_other_kinds(path, os.fstat(file.fileno()))
    return file


def refuse_links(folder: Path, files: Iterable[Path]) -> None:
    """Raises DamagedFile where a file of the folder lies elsewhere, by a link: it may be anything of this machine."""
    for path in files:
        there = Path(os.path.realpath(path))  # which takes links that lead to themselves, too
        if there != folder.resolve() / path.relative_to(folder) or path.is_symlink():
            raise DamagedFile(f"{path}: expected a file in {folder}, got a link to {there}. Put the file itself there.")


def read_file(path: Path, most: int = LARGEST_FILE) -> bytes:
    """What a regular file holds. Raises as `open_file`, and DamagedFile for more than `most` bytes."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            data = b"" if size > most else file.read(most + 1)
        except OSError as error:
            raise DamagedFile(f"{path}: expected a file that can be read, got: {error.strerror}.") from None
    if max(size, len(data)) > most:
        raise DamagedFile(f"{path}: expected at most {most} bytes, got {size}. Set it aside.")
    return data


def parse_json(data: bytes) -> Any:
    """JSON of whole numbers of at most MOST_DIGITS digits and of text that can be written. Raises ValueError."""
    try:
        content = json.loads(data.decode(), parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if b"\\u" in data:
        json.dumps(content, ensure_ascii=False).encode()  # half of a pair is no character
    return content


def refuse_odd(content: Any, most: int = MOST_VALUES) -> None:
    """Raises ValueError for what no file of ours holds: too deep, too many, too long numbers, kinds that JSON lacks."""
    left, count = [(content, 0)], 0
    while left:
        value, depth = left.pop()
        below: list[Any] = []
        if isinstance(value, dict):
            below = [*value, *value.values()]
        elif isinstance(value, list):
            below = value
        elif isinstance(value, str):
            value.encode()
        elif isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise ValueError(f"a number of more than {MOST_DIGITS} digits")
        elif not isinstance(value, int | float | None):
            raise ValueError(f"a {type(value).__name__}")
        count += len(below)  # before they are listed: a list may hold itself
        if depth > DEEPEST or count > most:
            raise ValueError("lists in lists without end")
        left += ((one, depth + 1) for one in below)


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_other_kinds(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device or socket")
        raise DamagedFile(f"{path}: expected a file, got {kind}. Set it aside.")


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
        content = parse_json(read_file(path))
        refuse_odd(content)
    except FileNotFoundError:
        return None
    except DamagedFile:
        raise
    except ValueError as error:
        raise DamagedFile(f"{path}: expected JSON, got a damaged file ({error}). Set it aside.") from None
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: expected a JSON object, got {str(content)[:60]!r}. Set it aside.")
    return content


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used to one that nobody reads, beside it; returns the new name. Nothing is lost."""
    asides = (path.with_name(f"{path.name}.damaged{number}") for number in chain([""], count(2)))
    return path.rename(next(aside for aside in asides if not aside.exists()))
