"""How a layer sends the class means to their one-hot corners, to more digits than float64 products keep.

In deep collapse W μ_c + b agrees with e_c to many digits and the loss is the square of what is left. A plain product
rounds that at 1e-16 ‖W‖‖μ‖, a visible share of a small loss; here it is exact to about 1e-22 ‖W‖‖μ‖.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.linear_classifier import LinearClassifier

# Residuals in one block (32 MiB of float64).
_BLOCK_RESIDUALS = 2**22
# Products of two numbers of 20 bits sum without rounding over up to 2^13 features in the 53 bits of float64.
_SLICE_BITS = 20


@dataclass(frozen=True)
class ClassMeanFit:
    """Sums over classes of the residuals r_c = W μ_c + b − e_c."""

    squares: torch.Tensor
    """Σ_c π_c ‖r_c‖²."""
    at_mean: torch.Tensor
    """Σ_c π_c r_c = W μ_G + b − π, (C,)."""
    on_basis: torch.Tensor
    """Σ_c √π_c r_c v_cᵀ, (C, k), v_c the rows of the basis (C, k) that was asked for."""


def class_mean_fit(statistics: ClassStatistics, classifier: LinearClassifier, basis: torch.Tensor) -> ClassMeanFit:
    """The residuals of all classes, blocked: memory O(C k) and a block of rows."""
    frequencies = statistics.frequencies
    squares, at_mean = basis.new_zeros(()), basis.new_zeros(len(basis))
    on_basis = torch.zeros_like(basis)
    for window, residuals in _residuals(statistics.class_means, classifier):
        squares += frequencies[window] @ residuals.square().sum(1)
        at_mean += frequencies[window] @ residuals
        on_basis.addmm_(residuals.T, frequencies[window].sqrt()[:, None] * basis[window])
    return ClassMeanFit(squares, at_mean, on_basis)


def _residuals(means: torch.Tensor, classifier: LinearClassifier) -> Iterator[tuple[slice, torch.Tensor]]:
    """Windows of classes with their rows r_c (B, C)."""
    num_classes, num_features = means.shape
    height = max(1, _BLOCK_RESIDUALS // num_classes)
    for start in range(0, num_classes, height):
        window = slice(start, min(start + height, num_classes))
        if num_classes - 1 > num_features:
            # W μ_c + b cannot reach all corners at once: nothing cancels, and a plain product will do.
            residuals = classifier(means[window])
            residuals.diagonal(start).sub_(1)
        else:
            residuals = _exact_residuals(means[window], classifier, start)
        yield window, residuals


def _exact_residuals(means: torch.Tensor, classifier: LinearClassifier, start: int) -> torch.Tensor:
    means_head, means_tail = _slices(means)
    weight_head, weight_tail = _slices(classifier.weight)
    # The product of the heads is exact; it and b and −1 meet by a sum whose rounding is kept (Knuth), and all that is
    # small joins last.
    head = means_head @ weight_head.T
    tail = means_head @ weight_tail.T + means_tail @ classifier.weight.T
    corners = torch.zeros_like(head)
    corners.diagonal(start).sub_(1)
    for term in (corners,) if classifier.bias is None else (classifier.bias, corners):
        total = head + term
        shown = total - head
        tail += (head - (total - shown)) + (term - shown)
        head = total
    return head + tail


def _slices(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first 20 bits of every entry, counted from its row's largest, and the rest."""
    _, exponents = torch.frexp(matrix.abs().amax(1, keepdim=True))
    step = torch.ldexp(torch.ones_like(matrix[:, :1]), exponents - _SLICE_BITS)
    head = (matrix / step).round() * step
    return head, matrix - head
