"""How a layer sends the class means to their one-hot corners, to more digits than float64 products keep.

In deep collapse W μ_c + b agrees with e_c to many digits and the loss is the square of what is left. A plain product
rounds that at 1e-16 ‖W‖‖μ‖, a visible share of a small loss; here it is exact to about 1e-22 ‖W‖‖μ‖.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.linear_classifier import LinearClassifier

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
    """The sums for a layer, `basis` (C, k) of its residuals."""
    if statistics.num_classes - 1 > statistics.num_features:
        return _fit_by_moments(statistics, classifier, basis)
    frequencies = statistics.frequencies
    residuals = _exact_residuals(statistics.class_means, classifier)
    return ClassMeanFit(
        squares=frequencies @ residuals.square().sum(1),
        at_mean=frequencies @ residuals,
        on_basis=residuals.T @ (frequencies.sqrt()[:, None] * basis),
    )


def _fit_by_moments(statistics: ClassStatistics, classifier: LinearClassifier, basis: torch.Tensor) -> ClassMeanFit:
    """In O(C P²), without the C×C residuals. More classes than a layer of P features can send to their corners: the
    residuals are of size 1 and there is nothing to cancel in

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


def _exact_residuals(means: torch.Tensor, classifier: LinearClassifier) -> torch.Tensor:
    """r_c, one row per class, (C, C)."""
    means_head, means_tail = _slices(means)
    weight_head, weight_tail = _slices(classifier.weight)
    # The product of the heads is exact; it and b and −1 meet by a sum whose rounding is kept (Knuth), and all that is
    # small joins last.
    head = means_head @ weight_head.T
    tail = means_head @ weight_tail.T + means_tail @ classifier.weight.T
    corners = -torch.eye(len(head), dtype=head.dtype, device=head.device)
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
