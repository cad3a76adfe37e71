"""The official files of the small image data sets, read from wherever people have them; nothing is written beside them.

Layout under the root, torchvision's own; the files may as well lie flat, or the root be a folder on the way to them:

    MNIST/raw/train-images-idx3-ubyte.gz ...      FashionMNIST/raw/... of the same names, compressed or not
    cifar-10-batches-py/data_batch_1 ...          cifar-100-python/train, test; or the archive they come in
    train_32x32.mat, test_32x32.mat               SVHN
    stl10_binary/train_X.bin ...                  or the archive
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ncexp.datasets.official_file import Found, Judge, OfficialFile, is_there, read
from ncexp.record import counted

#: Images (n, channels, height, width) uint8 and labels (n,) int64.
Examples = tuple[Tensor, Tensor]
#: Files of the train and of the test split, each in the order in which `decode` takes their contents.
Files = tuple[list[OfficialFile], list[OfficialFile]]


@dataclass(frozen=True)
class OfficialSet:
    """One data set: how its files are called and known, what is in them, and how torchvision downloads it.

    files: read at the call, from torchvision's tables. decode: contents of one split's files → examples. judge: of
    contents whose digest is not known; None: they are never taken. titles: see `official_file.read`.
    kind and splits: the torchvision class, and how it is asked for each split.
    """

    title: str
    num_classes: int
    files: Callable[[], Files]
    decode: Callable[[list[bytes]], Examples]
    judge: Judge | None
    titles: Callable[[], dict[str, str]]
    kind: Any
    splits: tuple[dict[str, Any], dict[str, Any]]

    def fingerprint(self, root: Path) -> str:
        """Sixteen hexadecimal digits for the contents: those that lie under the root, official ones where none does.

        Of a set whose contents are only taken if they are the official ones, no file is read.
        """
        lines = [f"{file.name} {self._digest(root, file)}" for split in self.files() for file in split]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def is_there(self, root: Path) -> bool:
        """Does every file lie there, right or wrong?"""
        return all(is_there(root, file) for split in self.files() for file in split)

    def read(self, root: Path) -> tuple[Examples, Examples, bool]:
        """Train and test examples, and whether all contents are known to be the official ones.

        Raises ValueError at the first file that is missing, cut short, damaged or another one, and where images and
        labels do not belong together.
        """
        train, test = self.files()
        found = [self._read(root, file) for file in counted([*train, *test], "files")]
        splits = found[: len(train)], found[len(train) :]
        examples = [self._checked(root, self.decode([file.data for file in split])) for split in splits]
        return examples[0], examples[1], all(file.official for file in found)

    def download(self, root: Path) -> None:
        """Let torchvision fetch and unpack what is missing. Raises ValueError where the network does not give it."""
        try:
            for split in self.splits:
                self.kind(root, **split, download=True)
        except (RuntimeError, OSError) as error:
            names = ", ".join(file.name for split in self.files() for file in split)
            raise ValueError(
                f"{self.title}: expected to download it to {root}, got {type(error).__name__}: {error}. "
                f"Run `ncexp prepare` where there is a network, or put these files under {root} yourself: {names}."
            ) from error

    def _digest(self, root: Path, file: OfficialFile) -> str:
        if self.judge is None or not is_there(root, file):
            return file.content
        return self._read(root, file).digest

    def _read(self, root: Path, file: OfficialFile) -> Found:
        return read(root, file, self.judge or (lambda data: ""), self.titles())

    def _checked(self, root: Path, examples: Examples) -> Examples:
        images, labels = examples
        if len(images) != len(labels) or len(labels) == 0 or not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"{self.title}: expected as many labels 0..{self.num_classes - 1} as images under {root}, got "
                f"{len(images)} images and {len(labels)} labels. Set dataset.root to a folder with the official files."
            )
        return images, labels
