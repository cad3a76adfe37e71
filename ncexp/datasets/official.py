"""The official files of the small image data sets: where they lie, their checksums, how torchvision reads them.

Layout under the root, torchvision's own:

    MNIST/raw/train-images-idx3-ubyte.gz ...      FashionMNIST/raw/... of the same names, compressed or not
    cifar-10-batches-py/data_batch_1 ...          cifar-100-python/train, test, meta
    train_32x32.mat, test_32x32.mat               SVHN
    stl10_binary/train_X.bin ...
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class OfficialSet:
    """One data set: its torchvision class `kind`, and how that is asked for train and for test.

    checksums: () → {file under the root: MD5}, torchvision's own tables, read at the call.
    """

    title: str
    num_classes: int
    kind: Any
    splits: tuple[dict[str, Any], dict[str, Any]]
    checksums: Callable[[], dict[str, str]]

    def fingerprint(self, root: Path) -> str | None:
        """A digest that names the content of checked files; None where it is not known yet."""
        return digest_of(self.checksums())

    def is_there(self, root: Path) -> bool:
        """Does every file lie there, right or wrong?"""
        return all((root / name).is_file() for name in self.checksums())

    def check(self, root: Path) -> None:
        """Read every file. Raises ValueError at the first that is missing, cut short or not the official one."""
        for name, checksum in self.checksums().items():
            check_file(self.title, root, name, checksum)

    def read(self, root: Path, split: int) -> tuple[Tensor, Tensor]:
        """Split 0 (train) or 1 (test) of checked files: images (n, channels, height, width) uint8, labels int64."""
        loaded = self.kind(root, **self.splits[split], download=False)
        images = torch.as_tensor(np.asarray(loaded.data))
        labels = torch.as_tensor(np.asarray(getattr(loaded, "targets", None) or loaded.labels)).long()
        if images.shape[-1] == 3:  # CIFAR's channels come last
            images = images.permute(0, 3, 1, 2)
        return self.checked(root, images.contiguous(), labels)

    def checked(self, root: Path, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Raises ValueError where images and labels do not belong together."""
        if len(images) != len(labels) or len(labels) == 0 or not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"{self.title}: expected as many labels 0..{self.num_classes - 1} as images under {root}, "
                f"got {len(images)} images and {len(labels)} labels. Delete the files and run `ncexp prepare` again."
            )
        return images, labels

    def download(self, root: Path) -> None:
        """Let torchvision fetch and unpack what is missing. Raises ValueError where the network does not give it."""
        try:
            for split in self.splits:
                self.kind(root, **split, download=True)
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"{self.title}: expected to download it to {root}, got {type(error).__name__}: {error}. "
                f"Run `ncexp prepare` where there is a network, or put these files under {root} yourself: "
                f"{', '.join(self.checksums())}."
            ) from error


def data_root(root: str | None) -> Path:
    """Where the files are: `root` if given, else the environment's NCEXP_DATA, else ./data."""
    return Path(root or os.environ.get("NCEXP_DATA") or "data").expanduser().absolute()


def digest_of(checksums: dict[str, str]) -> str:
    """Sixteen hexadecimal digits for a set of files and their checksums."""
    text = "\n".join(f"{name} {checksum}" for name, checksum in checksums.items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def md5_of(path: Path) -> str:
    """The MD5 of a file, which is what torchvision's tables hold."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_file(title: str, root: Path, name: str, checksum: str) -> None:
    """Raises ValueError where the file is missing or has another checksum."""
    path = root / name
    if not path.is_file():
        raise missing(title, root, name)
    if (found := md5_of(path)) != checksum:
        raise ValueError(
            f"{title}: expected {path} with MD5 {checksum}, got {found} ({path.stat().st_size} bytes). "
            "The file is cut short, damaged or another one: delete it and run `ncexp prepare` again."
        )


def missing(title: str, root: Path, name: str) -> ValueError:
    """The complaint about a file that is not there."""
    return ValueError(
        f"{title}: expected the file {name} under {root}, got none. Run `ncexp prepare dataset=...` where there is a "
        "network, or set NCEXP_DATA (or dataset.root) to the folder in which the files are."
    )
