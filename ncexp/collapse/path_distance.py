"""How far a last layer is from the central path: from the least-squares one of its features, (W_LS, b_LS)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.least_squares import Ridge, decompose_mse, least_squares_classifier
from ncexp.collapse.linear_classifier import LinearClassifier


@dataclass(frozen=True, kw_only=True)
class PathDistance:
    """Three measures, each 0 on the central path."""

    perp_share: float
    """L_LS^⊥ / L, between 0 and 1: the share of the loss that another last layer would save (HPD22 Thm. 1). Where
    rounding makes L less than L_LS + L_LS^⊥, it is the share in that sum."""
    classifier_distance: float
    """‖W̃ − W̃_LS‖_F / ‖W̃_LS‖_F, W̃ = [W, b]."""
    prediction_angle: float
    """Angle in degrees between the n×C predictions of W̃ and those of W̃_LS, as vectors: blind to their lengths."""


def distance_to_path(statistics: ClassStatistics, classifier: LinearClassifier, ridge: Ridge) -> PathDistance:
    """The last layer beside the least-squares one of the same features, both with the same λ (HPD22 section 3).

    The inner product of two layers' predictions, Ave_i ⟨A h̃_i, B h̃_i⟩ = tr(A Σ_W Bᵀ) + Σ_c π_c ⟨A μ̃_c, B μ̃_c⟩, needs
    no features. The angle of unit vectors u, v is 2 arcsin(½‖u − v‖), with all its digits where they nearly agree.

    Args:
        statistics: of the features that the layer reads.
        classifier: W̃; with bias None it is compared with the best layer without bias.
        ridge: λ, as for `least_squares_classifier`; 0 for HPD22's central path proper.

    Raises:
        ValueError: what `decompose_mse` refuses.
    """
    terms = decompose_mse(statistics, classifier, ridge)
    classifier = classifier.to(statistics.class_means.device)
    optimum = least_squares_classifier(statistics, ridge, bias=classifier.bias is not None)
    mine, best = _extended(classifier), _extended(optimum)
    total = max(terms.loss, terms.loss_ls + terms.loss_ls_perp)
    return PathDistance(
        perp_share=terms.loss_ls_perp / total if total else math.nan,
        classifier_distance=float(torch.linalg.norm(mine - best) / torch.linalg.norm(best)),
        prediction_angle=_angle(statistics, mine, best),
    )


def _extended(classifier: LinearClassifier) -> torch.Tensor:
    """W̃ = [W, b], (C, P+1)."""
    bias = classifier.weight.new_zeros(classifier.num_classes) if classifier.bias is None else classifier.bias
    return torch.cat([classifier.weight, bias[:, None]], dim=1)


def _angle(statistics: ClassStatistics, one: torch.Tensor, other: torch.Tensor) -> float:
    lengths = [_prediction_norm(statistics, layer) for layer in (one, other)]
    if not all(bool(length > 0) for length in lengths):
        return math.nan  # a layer that predicts 0 for everything points nowhere
    half = _prediction_norm(statistics, one / lengths[0] - other / lengths[1]) / 2
    return math.degrees(2 * math.asin(min(float(half), 1.0)))


def _prediction_norm(statistics: ClassStatistics, layer: torch.Tensor) -> torch.Tensor:
    """(Ave_i ‖W̃ h̃_i‖²)^½ as a scalar tensor."""
    weight, bias = layer[:, :-1], layer[:, -1]
    within = ((weight @ statistics.within_class_covariance) * weight).sum()
    at_means = statistics.class_means @ weight.T + bias
    return (within + (statistics.frequencies[:, None] * at_means.square()).sum()).sqrt()
