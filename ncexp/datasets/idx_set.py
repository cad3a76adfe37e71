"""MNIST and FashionMNIST: idx files, published compressed; checksums are known of the compressed ones only."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.utils import extract_archive

from ncexp.datasets.official import OfficialSet, check_file, digest_of, md5_of, missing


class IdxSet(OfficialSet):
    """A set in idx files. What lies there compressed is checked against torchvision's MD5 and unpacked beside it.

    An uncompressed file is held against the size that its own header tells, and known by its own MD5.
    """

    def fingerprint(self, root: Path) -> str | None:
        """A digest of the uncompressed files; None while one of them is not there."""
        names = self._uncompressed()
        if not all((root / name).is_file() for name in names):
            return None
        return digest_of({name: md5_of(root / name) for name in names})

    def is_there(self, root: Path) -> bool:
        """Does every file lie there, compressed or not?"""
        return all((root / name).is_file() or (root / name.removesuffix(".gz")).is_file() for name in self.checksums())

    def check(self, root: Path) -> None:
        """Unpack what is there only compressed, then look at every file's header and size."""
        for compressed, checksum in self.checksums().items():
            name = compressed.removesuffix(".gz")
            if not (root / name).is_file():
                if not (root / compressed).is_file():
                    raise missing(self.title, root, compressed)
                check_file(self.title, root, compressed, checksum)
                extract_archive(str(root / compressed), str((root / name).parent))
            _check_size(self.title, root / name)

    def read(self, root: Path, split: int) -> tuple[Tensor, Tensor]:
        """Split 0 (train) or 1 (test) of checked files: images (n, 1, height, width) uint8, labels (n,) int64."""
        loaded = self.kind(root, **self.splits[split], download=False)
        return self.checked(root, loaded.data.unsqueeze(1), loaded.targets.to(torch.int64))

    def _uncompressed(self) -> list[str]:
        return [name.removesuffix(".gz") for name in self.checksums()]


def _check_size(title: str, path: Path) -> None:
    """Two zeros, 8 for bytes, the number of dimensions, four bytes for each dimension's size, then the data."""
    with path.open("rb") as file:
        header = file.read(16)
    dimensions = int.from_bytes(header[3:4], "big") if header[:3] == b"\0\0\x08" else 0
    sizes = [int.from_bytes(header[4 * k : 4 * k + 4], "big") for k in range(1, dimensions + 1)]
    expected, found = 4 + 4 * dimensions + math.prod(sizes), path.stat().st_size
    if dimensions == 0 or len(header) < 4 + 4 * dimensions or found != expected:
        contract = f"an idx file of {expected} bytes, as its header tells" if dimensions else "an idx file of bytes"
        raise ValueError(
            f"{title}: expected {path} to be {contract}, got {found} bytes. "
            "The file is cut short, damaged or another one: delete it and run `ncexp prepare` again."
        )
