"""The official files of the small image data sets, read from wherever people have them; nothing is written beside them.

Layout under the root, torchvision's own; the files may as well lie flat, or the root be a folder on the way to them:

    MNIST/raw/train-images-idx3-ubyte.gz ...      FashionMNIST/raw/... of the same names, compressed or not
    cifar-10-batches-py/data_batch_1 ...          cifar-100-python/train, test; or the archive they come in
    train_32x32.mat, test_32x32.mat               SVHN
    stl10_binary/train_X.bin ...                  or the archive

A file is known by its content: the MD5 of what is in it once it is unpacked. Compressing anew, as distributions do,
changes the file and not the content. The published MD5 of a compressed file is a shortcut: where it matches, nothing
else needs to be known. Files are unpacked in memory, never on the disk.

Names, checksums and the download are torchvision's. Its readers are not used: they want files unpacked on the disk, and
open a pickle again after its check; here the bytes that were checked are the bytes that are read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.io
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, FashionMNIST

from ncexp.datasets import digest
from ncexp.datasets.cache import is_ours
from ncexp.record import counted

Source = Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "stl10"]
#: Images (n, channels, height, width) uint8 and labels (n,) int64.
Examples = tuple[Tensor, Tensor]

#: MD5 of what the four .gz files hold, in torchvision's order. torchvision publishes those of the .gz files alone.
_UNPACKED = {
    "MNIST": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "FashionMNIST": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
#: Sizes of MNIST and of FashionMNIST: what has them is the official content or damaged.
_IDX_SIZES = ([60_000, 28, 28], [60_000], [10_000, 28, 28], [10_000])
#: SVHN's examples of the digits 1 to 9 and 0, train and test (Netzer et al. 2011).
_SVHN_SIZES = (
    [13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659, 4948],
    [5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595, 1744],
)


@dataclass(frozen=True)
class OfficialFile:
    """One file of a set. name: where torchvision puts it under the root. published: MD5 of the file as published.

    unpacked: MD5 of what the published .gz holds; None where the file is published as it is.
    archive: the published archive that holds it under that name, where it comes in one.
    """

    name: str
    published: str
    unpacked: str | None = None
    archive: str | None = None

    def places(self, root: Path) -> Iterator[tuple[Path, bool]]:
        """MNIST/raw/x under the root, raw/x, x: so the root may be any folder on the way to it; then the archive.

        With each whether it is the archive. Of a file that is published compressed, the uncompressed one comes first.
        """
        parts = Path(self.name).parts
        for start in range(len(parts)):
            path = root.joinpath(*parts[start:])
            for candidate in dict.fromkeys([path.with_name(path.name.removesuffix(".gz")), path]):
                if candidate.is_file():
                    yield candidate, False
        if self.archive and (root / self.archive).is_file():
            yield root / self.archive, True


class _Found(NamedTuple):
    """A file's unpacked bytes, their MD5, and whether they are known to be the official ones."""

    data: bytes
    digest: str
    official: bool


@dataclass(frozen=True)
class OfficialSet:
    """One data set: kind, torchvision's class, says how its files are called and known, and downloads them.

    decode: the unpacked contents of one split's files → images (n, channels, height, width) uint8 and labels (n,) int64
    from 0 on. Only contents that were checked come there: a pickle can run code.
    judge: asked about contents whose digest is not known. It returns None where they may be taken, "" where they are
    not the official ones, else what the file was expected to be. Without a judge, unknown contents are never taken.
    """

    kind: Any
    num_classes: int
    decode: Callable[[list[bytes]], Examples]
    judge: Callable[[bytes], str | None] | None = None

    @property
    def title(self) -> str:
        """Its name in messages."""
        return str(self.kind.__name__)

    def files(self) -> tuple[list[OfficialFile], list[OfficialFile]]:
        """Those of the train and of the test split, from torchvision's tables, in the order that `decode` takes."""
        kind = self.kind
        if self.title in _UNPACKED:
            listed = zip(kind.resources, _UNPACKED[self.title], strict=True)
            files = [OfficialFile(f"{self.title}/raw/{name}", md5, unpacked) for (name, md5), unpacked in listed]
            return files[:2], files[2:]
        if kind is SVHN:
            train, test = ([OfficialFile(*kind.split_list[split][1:3])] for split in ("train", "test"))
            return train, test
        train, test = (
            [OfficialFile(f"{kind.base_folder}/{name}", published, archive=kind.filename) for name, published in table]
            for table in (kind.train_list, kind.test_list)
        )
        return [file for file in train if "/unlabeled" not in file.name], test

    def fingerprint(self, root: Path) -> str:
        """Sixteen hexadecimal digits for the contents: those that lie under the root, official ones where none does.

        Of a set whose contents are only taken if they are the official ones, no file is read.
        """
        lines = []
        for file in itertools.chain(*self.files()):
            is_read = self.judge is not None and any(file.places(root))
            lines.append(f"{file.name} {self._read(root, file).digest if is_read else file.unpacked or file.published}")
        return digest("\n".join(lines).encode())

    def is_there(self, root: Path) -> bool:
        """Does every file lie there, right or wrong?"""
        return all(any(file.places(root)) for file in itertools.chain(*self.files()))

    def read(self, root: Path) -> tuple[Examples, Examples, bool]:
        """Train and test examples, and whether all contents are known to be the official ones.

        Raises ValueError at the first file that is missing, cut short, damaged or another one, and where images and
        labels do not belong together.
        """
        train, test = self.files()
        found = [self._read(root, file) for file in counted([*train, *test], "files")]
        contents = [file.data for file in found]
        first, second = (self._decoded(root, some) for some in (contents[: len(train)], contents[len(train) :]))
        return first, second, all(file.official for file in found)

    def download(self, root: Path) -> None:
        """Let torchvision fetch and unpack what is missing. Raises ValueError where the network does not give it."""
        try:
            for split in ("train", "test"):
                asked = {"split": split} if self.kind in (SVHN, STL10) else {"train": split == "train"}
                self.kind(root, **asked, download=True)
        except (RuntimeError, OSError) as error:
            names = ", ".join(file.name for file in itertools.chain(*self.files()))
            raise ValueError(
                f"{self.title}: expected to download it to {root}, got {type(error).__name__}: {error}. "
                f"Run `ncexp prepare` where there is a network, or put these files under {root} yourself: {names}."
            ) from error

    def _read(self, root: Path, file: OfficialFile) -> _Found:
        """The file, from the first place under `root` where its content is right.

        Raises ValueError where the file is nowhere, and where it is right nowhere: about the first place.
        """
        refusal: ValueError | None = None
        for path, is_archive in file.places(root):
            try:
                return self._examine(path, file, is_archive)
            except ValueError as error:
                refusal = refusal or error
        raise refusal or ValueError(
            f"{self.title}: expected the file {file.name} (or {Path(file.name).name} alone) under {root}, got none. "
            "Run `ncexp prepare dataset=...` where there is a network, or set NCEXP_DATA (or dataset.root) to the "
            "folder in which the files are."
        )

    def _examine(self, path: Path, file: OfficialFile, is_archive: bool) -> _Found:
        """What is in the file; raises ValueError where it is not what it should be."""
        place = f"{path}:{file.name}" if is_archive else str(path)
        try:
            raw = _member(path, file.name) if is_archive else path.read_bytes()
        except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError) as error:
            raise ValueError(
                f"{self.title}: expected to read {place}, got {type(error).__name__}: {error}. {_advice(path)}"
            ) from None
        published = _md5(raw)
        not_official = f"{self.title}: expected {place} with MD5 {file.published}, got {published} ({len(raw)} bytes)"
        is_packed = path.suffix == ".gz" and not is_archive
        try:
            data = gzip.decompress(raw) if is_packed else raw
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{not_official}, which cannot be unpacked: {error}. {_advice(path)}") from None
        content, digest = file.unpacked or file.published, _md5(data) if is_packed else published
        if file.published == published or content == digest:
            return _Found(data, digest, official=True)
        for title, digests in _UNPACKED.items():  # of these sets the files have the same names
            if digest in digests:
                name = MNIST.resources[digests.index(digest)][0].removesuffix(".gz")
                raise ValueError(
                    f"{not_official}: the content is {title}'s {name}. Choose that, or set dataset.root to another "
                    "folder."
                )
        verdict = self.judge(data) if self.judge else ""
        if verdict is None:
            return _Found(data, digest, official=False)
        if verdict:
            raise ValueError(f"{self.title}: expected {place} to be {verdict}, got {len(data)} bytes. {_advice(path)}")
        raise ValueError(f"{not_official}, and content of MD5 {content}, got {digest}. {_advice(path)}")

    def _decoded(self, root: Path, contents: list[bytes]) -> Examples:
        images, labels = self.decode(contents)
        if len(images) != len(labels) or len(labels) == 0 or not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"{self.title}: expected as many labels 0..{self.num_classes - 1} as images under {root}, got "
                f"{len(images)} images and {len(labels)} labels. Set dataset.root to a folder with the official files."
            )
        return images, labels


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as members:
        member = members.extractfile(name)
        return b"" if member is None else member.read()


def _advice(path: Path) -> str:
    what = "The file is cut short, damaged or another one:"
    if is_ours(path.parent):
        return f"{what} delete it and run `ncexp prepare` again."
    return (
        f"{what} leave it there, and set dataset.root (or NCEXP_DATA) to a folder with the official files, or to one "
        "of your own for `ncexp prepare`."
    )


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _decode_idx(contents: list[bytes]) -> Examples:
    """Images, labels: each two zeros, 8 for bytes, the number of dimensions, four bytes for each size, the data."""
    images, labels = (np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(_sizes(data)) for data in contents)
    if images.ndim != 3 or labels.ndim != 1:
        raise ValueError(
            f"idx files: expected images of 3 dimensions and labels of 1, got {images.ndim} and {labels.ndim}. "
            "Set dataset.root to a folder with the official files."
        )
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def _judge_idx(data: bytes) -> str | None:
    """An idx file of another size than the official ones may be a set of one's own."""
    sizes = _sizes(data)
    if not sizes:
        return "an idx file of bytes"
    expected = 4 + 4 * len(sizes) + math.prod(sizes)
    if len(data) != expected:
        return f"an idx file of {expected} bytes, as its header states"
    return "" if sizes in _IDX_SIZES else None


def _sizes(data: bytes) -> list[int]:
    """The sizes in an idx header; [] where it is none."""
    if data[:3] != b"\0\0\x08" or len(data) < 4 or len(data) < 4 + 4 * data[3]:
        return []
    return np.frombuffer(data, ">u4", count=data[3], offset=4).tolist()


def _decode_cifar(contents: list[bytes]) -> Examples:
    """Pickled dictionaries: "data" (n, 3072), red, green, blue; "labels", of CIFAR100 "fine_labels"."""
    batches = [pickle.loads(data, encoding="latin1") for data in contents]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [label for batch in batches for label in batch.get("labels", batch.get("fine_labels"))]
    return torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64)


def _decode_svhn(contents: list[bytes]) -> Examples:
    """MATLAB's X (32, 32, 3, n) and y (n, 1), in which the digit 0 is the class 10."""
    table = scipy.io.loadmat(io.BytesIO(contents[0]))
    labels = table["y"].astype(np.int64).reshape(-1)
    return torch.from_numpy(table["X"].transpose(3, 2, 0, 1).copy()), torch.from_numpy(labels % 10)


def _judge_svhn(data: bytes) -> str | None:
    """Taken, though saved anew, if shape and class sizes are right: no digest of the images themselves is published.

    MATLAB's compressed files have a checksum of their own, so damage is found in those.
    """
    try:
        table = scipy.io.loadmat(io.BytesIO(data))
        shape, labels = table["X"].shape, table["y"].reshape(-1)
    except Exception:  # scipy's reader raises whatever its own reading of broken bytes ends in
        return ""
    counts = np.bincount(labels, minlength=11)[1:].tolist() if labels.dtype.kind in "iu" else []
    return None if counts in _SVHN_SIZES and shape == (32, 32, 3, len(labels)) else ""


def _decode_stl10(contents: list[bytes]) -> Examples:
    """Images column by column, (n, 3, 96, 96) with the width before the height; labels from 1."""
    images = np.frombuffer(contents[0], np.uint8).reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
    labels = np.frombuffer(contents[1], np.uint8).astype(np.int64) - 1
    return torch.from_numpy(images.copy()), torch.from_numpy(labels)


OFFICIAL: dict[Source, OfficialSet] = {
    "mnist": OfficialSet(MNIST, 10, _decode_idx, _judge_idx),
    "fashion_mnist": OfficialSet(FashionMNIST, 10, _decode_idx, _judge_idx),
    "cifar10": OfficialSet(CIFAR10, 10, _decode_cifar),
    "cifar100": OfficialSet(CIFAR100, 100, _decode_cifar),
    "svhn": OfficialSet(SVHN, 10, _decode_svhn, _judge_svhn),
    "stl10": OfficialSet(STL10, 10, _decode_stl10),
}
