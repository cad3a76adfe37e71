"""What is in the official files: idx, CIFAR's pickles, SVHN's MATLAB files, STL10's plain bytes.

Each `decode_*` takes the unpacked contents of the files of one split and returns images (n, channels, height, width)
uint8 and labels (n,) int64 from 0 on. Only contents that were checked come here: a pickle can run code.
"""

from __future__ import annotations

import io
import math
import pickle

import numpy as np
import scipy.io
import torch
from torch import Tensor

#: Sizes of MNIST and of FashionMNIST: what has them is the official content or damaged.
_IDX_SIZES = ([60_000, 28, 28], [60_000], [10_000, 28, 28], [10_000])
#: SVHN's examples of the digits 1 to 9 and 0, train and test (Netzer et al. 2011).
_SVHN_SIZES = (
    [13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659, 4948],
    [5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595, 1744],
)


def decode_idx(contents: list[bytes]) -> tuple[Tensor, Tensor]:
    """Images, labels: each two zeros, 8 for bytes, the number of dimensions, four bytes for each size, the data."""
    images, labels = (np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(_sizes(data)) for data in contents)
    if images.ndim != 3 or labels.ndim != 1:
        raise ValueError(
            f"idx files: expected images of 3 dimensions and labels of 1, got {images.ndim} and {labels.ndim}. "
            "Set dataset.root to a folder with the official files."
        )
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def judge_idx(data: bytes) -> str | None:
    """An idx file of another size than the official ones may be a set of one's own; `Judge` says what is returned."""
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
    return [int.from_bytes(data[4 * k : 4 * k + 4], "big") for k in range(1, data[3] + 1)]


def decode_cifar(contents: list[bytes]) -> tuple[Tensor, Tensor]:
    """Pickled dictionaries: "data" (n, 3072), red, green, blue; "labels", of CIFAR100 "fine_labels"."""
    batches = [pickle.loads(data, encoding="latin1") for data in contents]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [label for batch in batches for label in batch.get("labels", batch.get("fine_labels"))]
    return torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64)


def decode_svhn(contents: list[bytes]) -> tuple[Tensor, Tensor]:
    """MATLAB's X (32, 32, 3, n) and y (n, 1), in which the digit 0 is the class 10."""
    (data,) = contents
    table = scipy.io.loadmat(io.BytesIO(data))
    labels = table["y"].astype(np.int64).reshape(-1)
    return torch.from_numpy(table["X"].transpose(3, 2, 0, 1).copy()), torch.from_numpy(labels % 10)


def judge_svhn(data: bytes) -> str | None:
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


def decode_stl10(contents: list[bytes]) -> tuple[Tensor, Tensor]:
    """Images column by column, (n, 3, 96, 96) with the width before the height; labels from 1."""
    images = np.frombuffer(contents[0], np.uint8).reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
    labels = np.frombuffer(contents[1], np.uint8).astype(np.int64) - 1
    return torch.from_numpy(images.copy()), torch.from_numpy(labels)
