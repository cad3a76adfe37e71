"""The network's last layer, as the mathematics needs it: W and b, nothing trainable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.checks import require_finite


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """The last layer h ↦ W h + b, as a float64 snapshot cut off from autograd and from later optimizer steps.

    Args:
        weight: W, (C, P), any floating dtype.
        bias: b, (C,), or None for a layer without one.

    Raises:
        ValueError: a weight that is not a (C, P) floating tensor with C >= 2, a bias that is not (C,), a value that is
            not finite.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.weight.shape[0] < 2 or not self.weight.is_floating_point():
            raise ValueError(
                f"weight: expected a floating (C, P) tensor with C >= 2, got {tuple(self.weight.shape)} of "
                f"{self.weight.dtype}. Pass the last layer's weight, one row per class."
            )
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"bias: expected shape ({self.num_classes},) to go with the weight's {self.num_classes} rows, got "
                f"{tuple(self.bias.shape)}. Pass None for a layer without bias."
            )
        object.__setattr__(self, "weight", _snapshot("weight", self.weight))
        object.__setattr__(self, "bias", None if self.bias is None else _snapshot("bias", self.bias))

    def __call__(self, features: Tensor) -> Tensor:
        """The logits W h + b, (..., C) in float64, of features (..., P)."""
        logits = features.detach().to(self.weight) @ self.weight.T
        return logits if self.bias is None else logits + self.bias

    @property
    def num_classes(self) -> int:
        """C."""
        return self.weight.shape[0]

    @property
    def num_features(self) -> int:
        """P."""
        return self.weight.shape[1]

    def to(self, device: torch.device | str) -> LinearClassifier:
        """The same layer on another device; itself where it is there."""
        if self.weight.device == torch.device(device):
            return self
        return LinearClassifier(self.weight.to(device), None if self.bias is None else self.bias.to(device))


def _snapshot(name: str, values: Tensor) -> Tensor:
    values = values.detach().to(torch.float64, copy=True)
    require_finite(name, values.isfinite().all())
    return values
