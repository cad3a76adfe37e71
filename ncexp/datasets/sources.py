"""The official data sets by the names that conf/dataset gives them, on torchvision's classes and checksums."""

from __future__ import annotations

from typing import Any, Literal

from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, FashionMNIST

from ncexp.datasets.idx_set import IdxSet
from ncexp.datasets.official import OfficialSet

Source = Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "stl10"]

_BY_FLAG: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
_BY_NAME: tuple[dict[str, Any], dict[str, Any]] = ({"split": "train"}, {"split": "test"})


def _idx(kind: Any) -> dict[str, str]:
    return {f"{kind.__name__}/raw/{name}": checksum for name, checksum in kind.resources}


def _cifar(kind: Any) -> dict[str, str]:
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return {f"{kind.base_folder}/{name}": checksum for name, checksum in listed}


def _svhn() -> dict[str, str]:
    return {name: checksum for _, name, checksum in (SVHN.split_list[split] for split in ("train", "test"))}


def _stl10() -> dict[str, str]:
    return {f"{STL10.base_folder}/{name}": checksum for name, checksum in [*STL10.train_list, *STL10.test_list]}


OFFICIAL: dict[Source, OfficialSet] = {
    "mnist": IdxSet("MNIST", 10, MNIST, _BY_FLAG, lambda: _idx(MNIST)),
    "fashion_mnist": IdxSet("FashionMNIST", 10, FashionMNIST, _BY_FLAG, lambda: _idx(FashionMNIST)),
    "cifar10": OfficialSet("CIFAR10", 10, CIFAR10, _BY_FLAG, lambda: _cifar(CIFAR10)),
    "cifar100": OfficialSet("CIFAR100", 100, CIFAR100, _BY_FLAG, lambda: _cifar(CIFAR100)),
    "svhn": OfficialSet("SVHN", 10, SVHN, _BY_NAME, _svhn),
    "stl10": OfficialSet("STL10", 10, STL10, _BY_NAME, _stl10),
}
