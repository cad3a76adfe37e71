"""What a batch of features and labels must be; the part that needs its values never waits for a GPU."""

from __future__ import annotations

import torch

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_batch(features: torch.Tensor, labels: torch.Tensor, num_features: int) -> None:
    """Refuses shapes and dtypes other than features (n, P) floating and labels (n,) integer."""
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features: expected a floating tensor of shape (n, P), got {tuple(features.shape)} of {features.dtype}. "
            "Flatten or pool each example to one row."
        )
    if features.shape[1] != num_features:
        raise ValueError(
            f"features: expected width P = {num_features}, got {features.shape[1]}. Use one accumulator per layer."
        )
    if labels.shape != features.shape[:1] or labels.dtype not in _INTEGERS:
        raise ValueError(
            f"labels: expected {features.shape[0]} integers, one per row of features, got {tuple(labels.shape)} of "
            f"{labels.dtype}. Pass class numbers, not one-hot rows."
        )


def invalid_entries(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """[some feature is NaN or infinite, some label lies outside 0..C−1], (2,) bool on the features' device."""
    # The extremes of a tensor are NaN where any entry is, and infinite where any is: one read, no mask.
    lowest, highest = torch.aminmax(features)
    first, last = torch.aminmax(labels.to(features.device))
    return torch.stack([~(lowest.isfinite() & highest.isfinite()), (first < 0) | (last >= num_classes)])


def refuse_invalid_entries(invalid: torch.Tensor, num_classes: int) -> None:
    """Raises the ValueError that belongs to `invalid_entries`."""
    not_finite, bad_label = invalid.tolist()
    if not_finite:
        raise ValueError(
            "features: expected finite values, got NaN or infinity. The training has diverged; look there."
        )
    if bad_label:
        raise ValueError(f"labels: expected class numbers 0 to {num_classes - 1}, got others. Check num_classes.")
