"""Standardisation from the training subset: (x − mean) / standard deviation, pixel by pixel or channel by channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Standardize = Literal["per_pixel", "per_channel", "none"]

#: Examples that are converted to float64 at a time: a few megabytes, which stay in the processor's cache.
_BLOCK = 256


@dataclass(frozen=True)
class Standardization:
    """x → (x − mean) · scale, in float64, returned as float32; mean and scale broadcast against one input.

    num_constant: pixels, or channels, that never vary in training. They have no scale: they are 0, in test too.
    """

    mean: Tensor
    scale: Tensor
    num_constant: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """inputs (n, *shape) of any dtype, on the device of mean and scale → float32."""
        result = torch.empty(inputs.shape, dtype=torch.float32, device=inputs.device)
        for block, out in zip(inputs.split(_BLOCK), result.split(_BLOCK), strict=True):
            out.copy_((block.double() - self.mean) * self.scale)
        return result

    def to(self, device: torch.device) -> Standardization:
        """The same for inputs on another device."""
        return Standardization(self.mean.to(device), self.scale.to(device), self.num_constant)

    def pad(self, margins: tuple[int, int, int, int]) -> Standardization:
        """For images with a border of (left, right, top, bottom) black pixels, which per_pixel leaves at 0."""
        if self.mean.ndim == 0 or self.mean.shape[-1] == 1:  # one number a channel holds for the border too
            return self
        return Standardization(
            functional.pad(self.mean, margins), functional.pad(self.scale, margins), self.num_constant
        )


def fit(blocks: Iterable[Tensor], kind: Standardize, unit: float) -> Standardization:
    """The standardisation of training images that come as blocks (m, channels, height, width).

    per_pixel: mean and standard-deviation image (HPD22, PHD20); per_channel: one mean and deviation a channel; none:
    x / unit. The deviation is the population's (1/n). Blocks are merged pairwise about their means, in float64.
    Raises ValueError where there is no image.
    """
    if kind == "none":
        return Standardization(torch.zeros((), dtype=torch.float64), torch.tensor(1 / unit, dtype=torch.float64), 0)
    moments = _Moments()
    for block in blocks:
        for part in block.split(_BLOCK):
            moments.update(part.double() if kind == "per_pixel" else part.double().transpose(0, 1).flatten(1).T)
    if moments.count == 0:
        raise ValueError("standardize: expected training images, got none. Check the dataset.")
    mean, squares, varies = moments.mean, moments.squares, moments.highest > moments.lowest
    if kind == "per_channel":
        mean, squares, varies = (numbers.view(-1, 1, 1) for numbers in (mean, squares, varies))
    scale = varies / (squares / moments.count).sqrt().masked_fill(~varies, 1.0)
    return Standardization(mean, scale, int((~varies).sum()))


class _Moments:
    """Mean, sum of squares about it and range of rows of numbers, merged block by block (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)
        self.lowest, self.highest = torch.tensor(torch.inf), torch.tensor(-torch.inf)

    def update(self, rows: Tensor) -> None:
        here, total = rows.mean(0), self.count + len(rows)
        between = (here - self.mean).square() * (self.count * len(rows) / total)
        self.squares = self.squares + (rows - here).square().sum(0) + between
        self.mean = self.mean + (here - self.mean) * (len(rows) / total)
        self.lowest, self.highest = self.lowest.minimum(rows.amin(0)), self.highest.maximum(rows.amax(0))
        self.count = total


def finish(images: Tensor, standardization: Standardization, pad: int | None) -> Tensor:
    """Images (n, channels, height, width), centred in black squares of `pad` pixels if asked, then standardised.

    Raises ValueError where they are larger than `pad`.
    """
    if pad is None:
        return standardization(images)
    height, width = images.shape[-2:]
    if pad < max(height, width):
        raise ValueError(f"dataset.pad: expected at least the images' {height}×{width} pixels, got {pad}. Or null.")
    left, top = (pad - width) // 2, (pad - height) // 2
    margins = (left, pad - width - left, top, pad - height - top)
    return standardization.pad(margins)(functional.pad(images, margins))
