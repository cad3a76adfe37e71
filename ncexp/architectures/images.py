"""What the networks for images share: the check of their input, and the first convolution for other images than RGB."""

from __future__ import annotations

from typing import Literal

from torch import nn

#: small: 3×3, stride 1, no pooling, for images of about 32 pixels; imagenet: 7×7, stride 2, then a max-pool by 2.
Stem = Literal["small", "imagenet"]


def image_shape(input_shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """(channels, height, width), after looking that the inputs are images of at least `smallest` pixels a side."""
    if len(input_shape) != 3:
        raise ValueError(
            f"architecture: expected images (channels, height, width), got inputs of shape {tuple(input_shape)}. "
            "Choose architecture=mlp for such a dataset."
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise ValueError(
            f"architecture: expected images of at least {smallest}×{smallest} pixels, got {height}×{width}. "
            "Choose stem=small, a network with fewer halvings, or dataset.pad."
        )
    return channels, height, width


def first_convolution(channels: int, out: int, stem: Stem, mode: Literal["fan_in", "fan_out"]) -> nn.Conv2d:
    """The stem's convolution for images of any number of channels, from He's normal distribution as the others."""
    kernel, stride = (3, 1) if stem == "small" else (7, 2)
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode=mode, nonlinearity="relu")
    return convolution
