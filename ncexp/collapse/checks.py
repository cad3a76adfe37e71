"""What features, labels and layers must be; a check that needs values of a batch never waits for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_features(features: Tensor, num_features: int) -> None:
    """Refuses what is no floating tensor of shape (n, P)."""
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features: expected a floating tensor of shape (n, P), got {tuple(features.shape)} of {features.dtype}. "
            "Flatten or pool each example to one row."
        )
    if features.shape[1] != num_features:
        raise ValueError(
            f"features: expected width P = {num_features}, got {features.shape[1]}. Pass the features of one layer."
        )


def check_labels(labels: Tensor, features: Tensor) -> None:
    """Refuses what is no integer tensor of shape (n,)."""
    if labels.shape != features.shape[:1] or labels.dtype not in _INTEGERS:
        raise ValueError(
            f"labels: expected {features.shape[0]} integers, one per row of features, got {tuple(labels.shape)} of "
            f"{labels.dtype}. Pass class numbers, not one-hot rows."
        )


def check_layer(class_means: Tensor, weight: Tensor) -> None:
    """Refuses a layer and class means of another C or P."""
    if class_means.shape != weight.shape:
        raise ValueError(
            f"classifier: expected weight of shape (C, P) = {tuple(class_means.shape)} as the class means, got "
            f"{tuple(weight.shape)}. Measure the features that this layer reads."
        )


def check_free_targets(targets: Tensor, num_features: int) -> None:
    """Refuses targets that free features cannot fit, of another shape or kind or not finite, and a width below 1."""
    if targets.ndim != 2 or not targets.numel() or not targets.is_floating_point():
        raise ValueError(
            f"targets: expected a floating tensor of shape (n, m), got {tuple(targets.shape)} of {targets.dtype}. Pass "
            "one row per example."
        )
    require_finite("targets", all_finite(targets))
    if num_features < 1:
        raise ValueError(f"num_features: expected at least 1, got {num_features}. Pass the features' width P.")


def all_finite(values: Tensor) -> Tensor:
    """Whether no entry is NaN or infinite; a scalar on the values' device."""
    # The extremes of a tensor are NaN where any entry is, and infinite where any is: one read, no mask.
    lowest, highest = torch.aminmax(values)
    return lowest.isfinite() & highest.isfinite()


def require_finite(name: str, finite: Tensor) -> None:
    """Refuses values of which `all_finite` is false."""
    if not bool(finite):
        raise ValueError(f"{name}: expected finite values, got NaN or infinity. The training has diverged; look there.")
