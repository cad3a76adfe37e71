"""A multi-layer perceptron."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import nn

from ncexp.architectures.network import Classifier, Network
from ncexp.config import Width

Widths = Annotated[list[Width], Field(min_length=1)]


def mlp(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    hidden: Widths,
    batch_norm: bool = True,
    classifier: Classifier = "linear",
) -> Network:
    """Flatten, then Linear → (BatchNorm) → ReLU for every width in `hidden`; features (n, hidden[-1]), non-negative.

    Weights at torch's default initialisation.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(input_shape)
    for out in hidden:
        layers.append(nn.Linear(width, out, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(out))
        layers.append(nn.ReLU())
        width = out
    return Network(nn.Sequential(*layers), width, num_classes, classifier)
