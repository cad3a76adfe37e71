"""Random features of unequal classes, with a last layer, for the tests of the mathematics."""

from __future__ import annotations

import torch
from torch import Tensor

from ncexp.collapse import LinearClassifier


def draw(num_classes: int, num_features: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor, LinearClassifier]:
    """Unbalanced Gaussian classes with unequal spread, and a layer that is partly aligned with their means."""
    generator = torch.Generator().manual_seed(seed)

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.cat([torch.arange(num_classes), (num_classes * torch.rand(n, generator=generator) ** 2).long()])
    means, spreads = 2 + gaussian(num_classes, num_features), 0.3 + torch.rand(num_classes, 1, generator=generator)
    features = means[labels] + spreads[labels] * gaussian(len(labels), num_features)
    weight = means - means.mean(0) + gaussian(num_classes, num_features)
    return features, labels, LinearClassifier(weight, gaussian(num_classes))
