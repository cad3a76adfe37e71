"""scikit-learn's handwritten digits: 1797 images of 8×8 pixels (Alpaydin and Kaynak 1998), in the package itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from ncexp.config import ADDED, Count, Fraction, Seed
from ncexp.datasets import Dataset, Split
from ncexp.datasets.holding_out import Classes, HoldOut
from ncexp.datasets.preprocessing import Imbalance, Raw, finish, fit, mislabel, testing_subset, training_subset

NUM_CLASSES = 10
#: The darkest ink.
WHITE = 16.0


def load(
    *,
    examples_per_class: Count = 140,
    test_examples_per_class: Annotated[Count | None, ADDED] = None,
    standardize: Literal["per_pixel", "none"] = "per_pixel",
    pad: Annotated[Count | None, ADDED] = None,
    label_noise: Annotated[Fraction, ADDED] = 0.0,
    imbalance: Annotated[Imbalance, ADDED] = 1.0,
    hold_out: HoldOut = None,
    subset_seed: Seed = 0,
) -> Dataset:
    """A training set of `examples_per_class` images of the largest class; every image that is not in it is test.

    test_examples_per_class: so many of those others are, of each class.
    inputs (n, 1, 8, 8) float32, grey values 0..16 before standardisation. pad: width and height to which images are
    centred in black, after the statistics were taken, for networks that take no smaller ones. label_noise: share of
    training labels moved to another class. imbalance: largest training class over smallest, 1.0 for a balanced set
    (`preprocessing.class_sizes`). hold_out: classes to train without (`holding_out`); every image of them is test.
    Raises ValueError where a class would have no test image (the smallest class has 174 images), and where it has
    fewer than are asked for; where `pad` is below 8; for a class held out that does not exist, or one class left.
    """
    images, labels = _read()
    classes = Classes.without([*map(str, range(NUM_CLASSES))], hold_out)
    labels, num_classes = classes.numbers[labels], classes.num_classes
    smallest = int(torch.bincount(labels)[:num_classes].min())
    if examples_per_class >= smallest:
        raise ValueError(
            f"dataset.examples_per_class: expected at most {smallest - 1}, so that every class keeps a test image, "
            f"got {examples_per_class}."
        )
    chosen = training_subset(labels, num_classes, examples_per_class, imbalance, subset_seed)
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, chosen, False).nonzero().squeeze(1)
    held = rest[classes.held_out(labels[rest], test_examples_per_class, subset_seed)]
    rest = rest[testing_subset(labels[rest], num_classes, test_examples_per_class, subset_seed)]
    noisy = mislabel(labels[chosen], num_classes, label_noise, subset_seed)
    standardization = fit([images[chosen]], standardize, unit=1.0)
    raw = Raw.of(images[rest], standardization, pad, WHITE)
    train, test = Split(finish(images[chosen], standardization, pad), noisy), Split(raw.standardized(), labels[rest])
    held_out = Split(finish(images[held], standardization, pad), labels[held]) if hold_out else None
    facts = {"num_mislabelled": int((noisy != labels[chosen]).sum())} if label_noise else {}
    return Dataset(train, test, num_classes, {**facts, **classes.facts}, held_out=held_out, raw=raw)


def _read() -> tuple[Tensor, Tensor]:
    """All images (1797, 1, 8, 8) float32 and labels (1797,) int64, from the table that scikit-learn ships.

    Its own reader, `sklearn.datasets.load_digits`, takes a second to import, most of it scipy and pandas.
    """
    package = find_spec("sklearn")  # which does not import it
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return torch.from_numpy(table[:, :-1]).float().view(-1, 1, 8, 8), torch.from_numpy(table[:, -1]).long()
