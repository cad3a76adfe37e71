"""Tiny files in the official formats, and torchvision's checksum tables turned to them for the time of a test."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, FashionMNIST

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def examples(channels: int, side: int, num_classes: int = 10, per_class: int = 6, seed: int = 0) -> Arrays:
    """Random images (n, channels, side, side) uint8, one corner black, and labels; then a third as many for test."""
    generator = np.random.default_rng(seed)
    arrays: list[np.ndarray] = []
    for size in (per_class * num_classes, per_class * num_classes // 3):
        images = generator.integers(0, 256, (size, channels, side, side), dtype=np.uint8)
        images[:, :, 0, 0] = 0
        arrays += [images, generator.permutation(np.arange(size) % num_classes)]
    return arrays[0], arrays[1], arrays[2], arrays[3]


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(root: Path, patch: pytest.MonkeyPatch | None, kind: Any, arrays: Arrays, compress: bool = True) -> None:
    """patch None: uncompressed files, for which nobody has checksums."""
    folder = root / kind.__name__ / "raw"
    folder.mkdir(parents=True)
    contents = [arrays[0][:, 0], arrays[1], arrays[2][:, 0], arrays[3]]
    resources = []
    for (name, _), content in zip(kind.resources, contents, strict=True):
        data = gzip.compress(idx(content)) if compress else idx(content)
        (folder / (name if compress else name.removesuffix(".gz"))).write_bytes(data)
        resources.append((name, hashlib.md5(data).hexdigest()))
    if patch:
        patch.setattr(kind, "resources", resources)


def write_cifar(root: Path, patch: pytest.MonkeyPatch, kind: Any, arrays: Arrays) -> None:
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    key = "labels" if kind is CIFAR10 else "fine_labels"
    parts = len(kind.train_list)
    images, labels = np.array_split(arrays[0], parts), np.array_split(arrays[1], parts)
    tables: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for table, part in [
        *(("train_list", pair) for pair in zip(images, labels, strict=True)),
        ("test_list", arrays[2:]),
    ]:
        name = getattr(kind, table)[len(tables[table])][0]
        content = pickle.dumps({"data": part[0].reshape(len(part[0]), -1), key: part[1].tolist()})
        (folder / name).write_bytes(content)
        tables[table].append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({kind.meta["key"]: [f"class {c}" for c in range(arrays[1].max() + 1)]})
    (folder / kind.meta["filename"]).write_bytes(meta)
    for table, rows in tables.items():
        patch.setattr(kind, table, rows)
    patch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})


def write_svhn(root: Path, patch: pytest.MonkeyPatch, arrays: Arrays) -> None:
    root.mkdir(exist_ok=True)
    table = dict(SVHN.split_list)
    for split, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
        url, name, _ = table[split]
        official = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]  # the digit 0 is stored as class 10
        scipy.io.savemat(root / name, {"X": images.transpose(2, 3, 1, 0), "y": official})
        table[split] = [url, name, hashlib.md5((root / name).read_bytes()).hexdigest()]
    patch.setattr(SVHN, "split_list", table)


def write_stl10(root: Path, patch: pytest.MonkeyPatch, arrays: Arrays) -> None:
    folder = root / STL10.base_folder
    folder.mkdir(parents=True)
    # Stored column by column, labels from 1; the unlabelled images are part of torchvision's check.
    contents = {
        "train_X.bin": arrays[0].transpose(0, 1, 3, 2),
        "train_y.bin": arrays[1].astype(np.uint8) + 1,
        "unlabeled_X.bin": arrays[2].transpose(0, 1, 3, 2),
        "test_X.bin": arrays[2].transpose(0, 1, 3, 2),
        "test_y.bin": arrays[3].astype(np.uint8) + 1,
    }
    sums = {}
    for name, array in contents.items():
        (folder / name).write_bytes(np.ascontiguousarray(array).tobytes())
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    for table in ("train_list", "test_list"):
        patch.setattr(STL10, table, [[name, sums[name]] for name, _ in getattr(STL10, table)])


def write(source: str, root: Path, patch: pytest.MonkeyPatch) -> Arrays:
    """Files of `source` under root; answers what is in them, as train images, labels, test images, labels."""
    if source in ("mnist", "fashion_mnist"):
        arrays = examples(1, 28)
        write_idx(root, patch, MNIST if source == "mnist" else FashionMNIST, arrays)
    elif source in ("cifar10", "cifar100"):
        arrays = examples(3, 32, num_classes=10 if source == "cifar10" else 100)
        write_cifar(root, patch, CIFAR10 if source == "cifar10" else CIFAR100, arrays)
    elif source == "svhn":
        arrays = examples(3, 32)
        write_svhn(root, patch, arrays)
    else:
        arrays = examples(3, 96, per_class=3)
        write_stl10(root, patch, arrays)
    return arrays


#: A file of every source that a test may damage.
ONE_FILE = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte.gz",
    "fashion_mnist": "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz",
    "cifar10": "cifar-10-batches-py/data_batch_3",
    "cifar100": "cifar-100-python/train",
    "svhn": "test_32x32.mat",
    "stl10": "stl10_binary/train_X.bin",
}
