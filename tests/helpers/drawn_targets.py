"""Random features with real-valued targets, for the tests of least squares of any target."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_targets(
    n: int, num_features: int, num_targets: int, offset: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Gaussian features and a linear function of them with noise of variance 1, both moved by the offset."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, num_features, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, num_targets, generator=generator, dtype=torch.float64)
    mixing = torch.randn(num_features, num_targets, generator=generator, dtype=torch.float64)
    return offset + features, offset + features @ mixing + noise


def random_layer(num_targets: int, num_features: int, bias: bool = True, seed: int = 1) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_targets, num_features, generator=generator, dtype=torch.float64)
    return weight, torch.randn(num_targets, generator=generator, dtype=torch.float64) if bias else None
