"""Standardisation against NumPy on all the numbers at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ncexp.datasets import preprocessing
from ncexp.datasets.preprocessing import fit

#: float64 sums of 10⁴ numbers in another order.
ROUNDING = 1e-12


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 5, 4), generator=generator, dtype=torch.uint8)
    images[:, 1, 2, 3] = 7
    return images


@pytest.mark.parametrize(("kind", "axes"), [("per_pixel", 0), ("per_channel", (0, 2, 3))])
@pytest.mark.parametrize("block", [50, 7, 1])
def test_statistics_equal_numpys_whatever_the_blocks(images, kind, axes, block, monkeypatch):
    monkeypatch.setattr(preprocessing, "_BLOCK", 4)
    fitted = fit(images.split(block), kind, unit=255.0)
    numbers = images.numpy().astype(np.float64)
    deviation = numbers.std(axes)
    np.testing.assert_allclose(fitted.mean.squeeze(), numbers.mean(axes), rtol=ROUNDING)
    np.testing.assert_allclose(fitted.scale.squeeze().numpy() * deviation, deviation > 0, rtol=ROUNDING)
    assert fitted.num_constant == (1 if kind == "per_pixel" else 0)


def test_none_divides_by_the_unit(images):
    assert torch.equal(fit([], "none", unit=255.0)(images), (images.double() / 255).float())


def test_pixel_that_never_varies_is_zero_in_test_too():
    train = torch.full((11, 1, 1, 2), 0.7, dtype=torch.float64)
    train[..., 1] = torch.arange(11.0).view(11, 1, 1)
    assert train[:, 0, 0, 0].mean() != 0.7  # so that the deviation, as computed, is not zero either
    standardization = fit([train], "per_pixel", unit=1.0)
    ours, test = standardization(train), standardization(torch.full((2, 1, 1, 2), 6.0))
    assert not ours[..., 0].any()
    assert not test[..., 0].any()
    assert test[..., 1].all()


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="expected training images, got none"):
        fit([], "per_pixel", unit=1.0)
