"""One official file: where it may lie, whether its content is the official one, and what is in it.

A file is known by its content: the MD5 of what is in it once it is unpacked. Compressing anew, as distributions do,
changes the file and not the content. The published MD5 of a compressed file is a shortcut: where it matches, nothing
else needs to be known. Files are unpacked in memory, never on the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ncexp.datasets.folders import is_ours

#: Judges unpacked bytes that no digest is known of. None: they may be taken. "": they are not the official ones. Else
#: what the file was expected to be.
Judge = Callable[[bytes], str | None]


@dataclass(frozen=True)
class OfficialFile:
    """title: the set. name: where torchvision puts it under the root. published: MD5 of the file as published.

    unpacked: MD5 of what the published .gz holds; None where the file is published as it is.
    archive: the published archive that holds it under that name, where it comes in one.
    """

    title: str
    name: str
    published: str
    unpacked: str | None = None
    archive: str | None = None

    @property
    def content(self) -> str:
        """The MD5 of the official content."""
        return self.unpacked or self.published


@dataclass(frozen=True)
class Found:
    """A file's unpacked bytes, their MD5, and whether they are known to be the official ones."""

    data: bytes
    digest: str
    official: bool


def is_there(root: Path, file: OfficialFile) -> bool:
    """Does it lie somewhere under the root, right or wrong?"""
    return next(_places(root, file), None) is not None


def read(root: Path, file: OfficialFile, judge: Judge, titles: dict[str, str]) -> Found:
    """The file, from the first place under `root` where its content is right.

    titles: whose an official content is, by its MD5, over all sets: to say what a wrong file is.
    Raises ValueError where the file is nowhere, and where it is right nowhere: about the first place.
    """
    complaints: list[str] = []
    for place in _places(root, file):
        found = _examine(place, file, judge, titles)
        if isinstance(found, Found):
            return found
        complaints.append(found)
    if complaints:
        raise ValueError(complaints[0])
    raise ValueError(
        f"{file.title}: expected the file {file.name} (or {Path(file.name).name} alone) under {root}, got none. "
        "Run `ncexp prepare dataset=...` where there is a network, or set NCEXP_DATA (or dataset.root) to the folder "
        "in which the files are."
    )


@dataclass(frozen=True)
class _Place:
    """A file on the disk, or a member of an archive there."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def is_packed(self) -> bool:
        return self.path.name.endswith(".gz") and self.member is None

    def read(self) -> bytes:
        if self.member is None:
            return self.path.read_bytes()
        with tarfile.open(self.path) as archive:
            member = archive.extractfile(self.member)
            return b"" if member is None else member.read()


def _places(root: Path, file: OfficialFile) -> Iterator[_Place]:
    """MNIST/raw/x under the root, raw/x, x: so the root may be any folder on the way to the files; then the archive.

    Of a file that is published compressed, the uncompressed one comes first.
    """
    parts = Path(file.name).parts
    for start in range(len(parts)):
        path = root.joinpath(*parts[start:])
        for candidate in dict.fromkeys([path.with_name(path.name.removesuffix(".gz")), path]):
            if candidate.is_file():
                yield _Place(candidate)
    if file.archive and (root / file.archive).is_file():
        yield _Place(root / file.archive, file.name)


def _examine(place: _Place, file: OfficialFile, judge: Judge, titles: dict[str, str]) -> Found | str:
    """What is in the file; or what is to be said of it, where it is not what it should be."""
    try:
        raw = place.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError) as error:
        return f"{file.title}: expected to read {place}, got {type(error).__name__}: {error}. {_advice(place)}"
    published = _md5(raw)
    not_official = f"{file.title}: expected {place} with MD5 {file.published}, got {published} ({len(raw)} bytes)"
    try:
        data = gzip.decompress(raw) if place.is_packed else raw
    except (OSError, EOFError, zlib.error) as error:
        return f"{not_official}, which cannot be unpacked: {error}. {_advice(place)}"
    digest = _md5(data) if place.is_packed else published
    if file.published == published or file.content == digest:
        return Found(data, digest, official=True)
    if digest in titles:
        return f"{not_official}: the content is {titles[digest]}. Choose that, or set dataset.root to another folder."
    verdict = judge(data)
    if verdict is None:
        return Found(data, digest, official=False)
    if verdict:
        return f"{file.title}: expected {place} to be {verdict}, got {len(data)} bytes. {_advice(place)}"
    return f"{not_official}, and content of MD5 {file.content}, got {digest}. {_advice(place)}"


def _advice(place: _Place) -> str:
    if is_ours(place.path.parent):
        return "The file is cut short, damaged or another one: delete it and run `ncexp prepare` again."
    return (
        "The file is cut short, damaged or another one: leave it there, and set dataset.root (or NCEXP_DATA) to a "
        "folder with the official files, or to one of your own for `ncexp prepare`."
    )


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
