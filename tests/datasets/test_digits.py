"""The digits against scikit-learn's own reader."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize("standardize", ["per_pixel", "none"])
def test_digits_are_centred_in_black_where_a_network_takes_no_smaller_ones(standardize: str) -> None:
    plain, padded = (digits.load(standardize=standardize, pad=pad) for pad in (None, 32))  # type: ignore[arg-type]
    for name, split in plain.splits.items():
        inputs = padded.splits[name].inputs  # type: ignore[attr-defined]
        assert inputs.shape == (len(split), 1, 32, 32)
        assert torch.equal(inputs[:, :, 12:20, 12:20], split.inputs)  # type: ignore[attr-defined]
        assert inputs.count_nonzero() == split.inputs.count_nonzero()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"dataset\.pad: expected at least the images' 8×8 pixels, got 7"):
        digits.load(pad=7)
