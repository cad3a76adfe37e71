"""How a layer sends the class means to their one-hot corners, to more digits than float64 products keep.

In deep collapse W μ_c + b agrees with e_c to many digits and the loss is the square of what is left. A plain product
rounds that at 1e-16 ‖W‖‖μ‖, a visible share of a small loss; here it is exact to about 1e-22 ‖W‖‖μ‖.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.determined_range import ROUND_OFF
from ncexp.collapse.linear_classifier import LinearClassifier

# Products of two numbers of 20 bits sum without rounding over up to 2^13 features in the 53 bits of float64.
_SLICE_BITS = 20
# Of the sum of squares: what moments may lose of it.
_CERTAIN = 1e-12
# Residuals at a time (32 MiB of float64).
_BLOCK = 2**22


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
    """The sums for a layer, `basis` (C, k) of its residuals.

    By moments where there are more classes than a layer of P features can send to their corners, and W is no larger
    than that takes; by the residuals themselves, some classes at a time, where sums of products could hide them.
    """
    frequencies = statistics.frequencies
    if statistics.num_classes - 1 > statistics.num_features:
        fit = _fit_by_moments(statistics, classifier, basis)
        products = classifier.weight.square().sum(0) @ statistics.class_means.square().amax(0)
        if bool(ROUND_OFF * products <= _CERTAIN * fit.squares):
            return fit
    squares, at_mean, on_basis = frequencies.new_zeros(()), torch.zeros_like(frequencies), torch.zeros_like(basis)
    for classes in torch.arange(len(frequencies), device=frequencies.device).split(-(-_BLOCK // len(frequencies))):
        residuals, weights = _exact_residuals(statistics.class_means, classifier, classes), frequencies[classes]
        squares += weights @ residuals.square().sum(1)
        at_mean += weights @ residuals
        on_basis += residuals.T @ (weights.sqrt()[:, None] * basis[classes])
    return ClassMeanFit(squares, at_mean, on_basis)


def _fit_by_moments(statistics: ClassStatistics, classifier: LinearClassifier, basis: torch.Tensor) -> ClassMeanFit:
    """In O(C P²), without the C×C residuals. Where these are of size 1, and W of a size that makes them so, there is
    nothing to cancel in

    Σ_c π_c ‖r_c‖² = ‖W μ_G + b − π‖² + tr(W Σ_B Wᵀ) − 2 Σ_c π_c ⟨w_c, m_c⟩ + 1 − ‖π‖².
    """
    frequencies, means, weight = statistics.frequencies, statistics.centered_class_means, classifier.weight
    roots = frequencies.sqrt()[:, None]
    at_mean = classifier(statistics.global_mean) - frequencies
    spread = ((weight @ statistics.between_class_covariance) * weight).sum()
    squares = at_mean.square().sum() + spread + 1 - frequencies.square().sum()
    return ClassMeanFit(
        squares=squares - 2 * frequencies @ (weight * means).sum(1),
        at_mean=at_mean,
        # r_c = (W μ_G + b − π) + W m_c − (e_c − π).
        on_basis=torch.outer(at_mean + frequencies, (roots * basis).sum(0))
        + weight @ (means.T @ (roots * basis))
        - roots * basis,
    )


def _exact_residuals(means: torch.Tensor, classifier: LinearClassifier, classes: torch.Tensor) -> torch.Tensor:
    """r_c, one row for each of the classes, (k, C)."""
    means_head, means_tail = _slices(means[classes])
    weight_head, weight_tail = _slices(classifier.weight)
    # The product of the heads is exact; it and b and −1 meet by a sum whose rounding is kept (Knuth), and all that is
    # small joins last.
    head = means_head @ weight_head.T
    tail = means_head @ weight_tail.T + means_tail @ classifier.weight.T
    corners = torch.zeros_like(head).scatter_(1, classes[:, None], -1)
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
