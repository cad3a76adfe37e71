"""Standardisation from the training subset."""

from __future__ import annotations

from torch import Tensor


def per_pixel(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """(x − mean image) / standard-deviation image, both of the training inputs (n, *shape); the paper's preprocessing.

    A pixel that never varies in training has no scale: it is 0 in training and in test. The standard deviation is the
    population's (1/n). Result float32; the arithmetic is float64.
    """
    reference = train.double()
    mean = reference.mean(0)
    deviation = reference.std(0, correction=0)
    varies = deviation > 0
    scale = varies / deviation.masked_fill(~varies, 1.0)
    return ((reference - mean) * scale).float(), ((test.double() - mean) * scale).float()
