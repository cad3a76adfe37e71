"""The digits against scikit-learn's own reader."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from ncexp.datasets import digits


def test_digits_are_what_scikit_learn_reads() -> None:
    dataset, bunch = digits.load(standardize="none"), load_digits()
    ours = torch.cat([dataset.train.inputs, dataset.test.inputs]).squeeze(1)
    labels = torch.cat([dataset.train.labels, dataset.test.labels])
    rows = sorted([*image.flatten().tolist(), float(label)] for image, label in zip(ours, labels, strict=True))
    theirs = zip(bunch.images, bunch.target, strict=True)
    assert rows == sorted([*image.ravel().tolist(), float(label)] for image, label in theirs)
