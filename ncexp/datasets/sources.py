"""The official data sets by the names that conf/dataset gives them, on torchvision's file names and checksums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, FashionMNIST

from ncexp.datasets.official import Files, OfficialSet
from ncexp.datasets.official_file import OfficialFile
from ncexp.datasets.official_formats import (
    decode_cifar,
    decode_idx,
    decode_stl10,
    decode_svhn,
    judge_idx,
    judge_svhn,
)

Source = Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "stl10"]

_BY_FLAG: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
_BY_NAME: tuple[dict[str, Any], dict[str, Any]] = ({"split": "train"}, {"split": "test"})

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


def _idx(kind: Any) -> Files:
    title = kind.__name__
    train_images, train_labels, test_images, test_labels = (
        OfficialFile(title, f"{title}/raw/{name}", published, unpacked)
        for (name, published), unpacked in zip(kind.resources, _UNPACKED[title], strict=True)
    )
    return [train_images, train_labels], [test_images, test_labels]


def _in_folder(kind: Any, listed: Iterable[tuple[str, str]]) -> list[OfficialFile]:
    return [
        OfficialFile(kind.__name__, f"{kind.base_folder}/{name}", published, archive=kind.filename)
        for name, published in listed
    ]


def _svhn() -> Files:
    train, test = (SVHN.split_list[split] for split in ("train", "test"))
    return [OfficialFile("SVHN", train[1], train[2])], [OfficialFile("SVHN", test[1], test[2])]


def _stl10() -> Files:
    labelled = [(name, published) for name, published in STL10.train_list if not name.startswith("unlabeled")]
    return _in_folder(STL10, labelled), _in_folder(STL10, STL10.test_list)


def _cifar(kind: Any) -> Files:
    return _in_folder(kind, kind.train_list), _in_folder(kind, kind.test_list)


def _titles() -> dict[str, str]:
    """Of the sets whose files have the same names."""
    names = [name.removesuffix(".gz") for name, _ in MNIST.resources]
    return {
        digest: f"{title}'s {name}" for title in _UNPACKED for name, digest in zip(names, _UNPACKED[title], strict=True)
    }


def _none() -> dict[str, str]:
    return {}


OFFICIAL: dict[Source, OfficialSet] = {
    "mnist": OfficialSet("MNIST", 10, lambda: _idx(MNIST), decode_idx, judge_idx, _titles, MNIST, _BY_FLAG),
    "fashion_mnist": OfficialSet(
        "FashionMNIST", 10, lambda: _idx(FashionMNIST), decode_idx, judge_idx, _titles, FashionMNIST, _BY_FLAG
    ),
    "cifar10": OfficialSet("CIFAR10", 10, lambda: _cifar(CIFAR10), decode_cifar, None, _none, CIFAR10, _BY_FLAG),
    "cifar100": OfficialSet("CIFAR100", 100, lambda: _cifar(CIFAR100), decode_cifar, None, _none, CIFAR100, _BY_FLAG),
    "svhn": OfficialSet("SVHN", 10, _svhn, decode_svhn, judge_svhn, _none, SVHN, _BY_NAME),
    "stl10": OfficialSet("STL10", 10, _stl10, decode_stl10, None, _none, STL10, _BY_NAME),
}
