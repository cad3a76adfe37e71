"""scikit-learn's handwritten digits: 1797 images of 8×8 pixels (Alpaydin and Kaynak 1998), in the package itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ncexp.config import Count
from ncexp.datasets.dataset import Dataset, Split
from ncexp.datasets.standardize import per_pixel
from ncexp.datasets.subset import balanced_split

NUM_CLASSES = 10


def load(
    *, examples_per_class: Count = 140, standardize: Literal["per_pixel", "none"] = "per_pixel", subset_seed: int = 0
) -> Dataset:
    """A balanced training set of `examples_per_class` images a class; every other image is test.

    inputs (n, 1, 8, 8) float32, grey values 0..16 before standardisation.
    Raises ValueError where a class would have no test image (the smallest class has 174 images).
    """
    images, labels = _read()
    smallest = int(torch.bincount(labels).min())
    if examples_per_class >= smallest:
        raise ValueError(
            f"dataset.examples_per_class: expected at most {smallest - 1}, so that every class keeps a test image, "
            f"got {examples_per_class}."
        )
    chosen, rest = balanced_split(labels, NUM_CLASSES, examples_per_class, subset_seed)
    train, test = images[chosen], images[rest]
    if standardize == "per_pixel":
        train, test = per_pixel(train, test)
    return Dataset(Split(train, labels[chosen]), Split(test, labels[rest]), NUM_CLASSES)


def _read() -> tuple[Tensor, Tensor]:
    """All images (1797, 1, 8, 8) float32 and labels (1797,) int64, from the table that scikit-learn ships.

    Its own reader, `sklearn.datasets.load_digits`, takes a second to import, most of it scipy and pandas.
    """
    package = find_spec("sklearn")  # which does not import it
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return torch.from_numpy(table[:, :-1]).float().view(-1, 1, 8, 8), torch.from_numpy(table[:, -1]).long()
