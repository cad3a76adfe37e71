"""The MSE decomposition (HPD22 Prop. 1, Thm. 1 and Thm. 2): the optimal last layer, and what a last layer loses to it.

Objective: L(W, b) = ½ Ave_i ‖W h_i + b − y_i‖² + (λ_W/2) ‖W‖_F² + (λ_b/2) ‖b‖², y_i one-hot. The ½ and the sum over the
classes belong to it. HPD22 has λ_W = λ_b = λ: then with h̃ = [h; 1], W̃ = [W, b], and class frequencies π_c,

    W̃_LS = diag(π) M̃ᵀ (Σ̃_T + μ̃_G μ̃_Gᵀ + λI)⁻¹.

How it is computed. The deviations of h̃ from its class means have no bias part, and W̃ h̃ enters squared, so
L(W̃) = ½ ‖W̃ F − Y‖_F² + const for any factor F Fᵀ of the bracket and the Y that gives Y Fᵀ = diag(π) M̃ᵀ:

    F = [ Σ_W^{1/2}   M diag(√π)   diag(√λ) ]        Y = [ 0   diag(√π)   0 ]
        [ 0           √πᵀ                   ]

and W̃_LS = Y F^†. `_solve_regular` eliminates the bias and whitens by Σ_W + λ_W I where that is safely invertible;
`_solve_singular` takes F^† itself. Neither squares the spread between class means and deviations, which in deep
collapse is what would be lost first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.linear_classifier import LinearClassifier
from ncexp.collapse.neural_collapse import require_same_shape

_ROUND_OFF = torch.finfo(torch.float64).eps

Ridge = float | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class MSEDecomposition:
    """L = L_NC1 + L_NC2/3 + L_LS^⊥ (HPD22 Prop. 1, Thm. 1, Thm. 2), each with the ½ and in the units of L."""

    loss: float
    """L of the classifier, from its definition and from nothing below."""
    loss_ls: float
    """L_LS = L_NC1 + L_NC2/3, the least that any last layer could reach on these features."""
    loss_nc1: float
    """L_NC1 = ½ tr{W̃_LS (Σ̃_W + λI) W̃_LSᵀ}: variability that the best layer cannot ignore, and the penalty."""
    loss_nc23: float
    """L_NC2/3 = ½ Σ_c π_c ‖W̃_LS μ̃_c − e_c‖²: class means that the best layer cannot send to the one-hot corners."""
    loss_ls_perp: float
    """L_LS^⊥ = ½ tr{(W̃ − W̃_LS)(Σ̃_T + μ̃_G μ̃_Gᵀ + λI)(W̃ − W̃_LS)ᵀ}: how far the layer is from the central path."""

    @property
    def residual(self) -> float:
        """|L − (L_NC1 + L_NC2/3 + L_LS^⊥)| / L: rounding, as L is computed apart from the terms; 0 where L is 0."""
        gap = abs(self.loss - math.fsum((self.loss_nc1, self.loss_nc23, self.loss_ls_perp)))
        return gap / self.loss if gap else 0.0


def ridge_from_weight_decay(weight_decay: float, loss_scale: float) -> float:
    """λ = wd/s, the ridge of the objective that training with coupled weight decay really has.

    A training loss s · ½ Ave ‖·‖² and an optimizer that adds wd·θ to the gradient (SGD, Adam; not AdamW) descend
    s · (½ Ave ‖·‖² + (λ/2) ‖θ‖²). HPD22's loss has s = 1; `torch.nn.MSELoss()` averages over the C outputs as well, so
    s = 2/C. Decoupled decay (AdamW) minimises no such objective: use ridge 0 there. A bias that is not decayed has
    ridge (λ, 0.0).

    Raises:
        ValueError: a weight decay below 0 or not finite, a loss scale not above 0 or not finite.

    >>> ridge_from_weight_decay(5e-4, loss_scale=2 / 10)
    0.0025
    """
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"weight_decay: expected a finite number >= 0, got {weight_decay}. Pass the optimizer's value."
        )
    if not 0 < loss_scale < math.inf:
        raise ValueError(f"loss_scale: expected a finite number > 0, got {loss_scale}. Pass s of s · ½ Ave ‖·‖².")
    return weight_decay / loss_scale


def least_squares_classifier(statistics: ClassStatistics, ridge: Ridge, bias: bool = True) -> LinearClassifier:
    """W̃_LS, the last layer that minimises L for these features (HPD22 Prop. 1); any class sizes.

    At ridge 0 with features whose second moments are singular, it is the minimiser of least ‖[W, b]‖_F on the
    directions that the statistics determine: an eigenvalue of Σ_W, brought to unit diagonal, counts from P·ε of the
    largest, and a singular value of the factor F from max(F.shape)·ε of the largest, ε = 2.2e-16.

    Args:
        statistics: of the features that the layer reads.
        ridge: λ >= 0 for weight and bias alike, or (λ_W, λ_b); see `ridge_from_weight_decay`.
        bias: False for a layer without bias; λ_b is then of no account.

    Raises:
        ValueError: a ridge that is negative or not finite.
    """
    weight_ridge, bias_ridge = _ridges(ridge)
    solved = _solve_regular(statistics, weight_ridge, bias_ridge if bias else math.inf)
    return solved if solved is not None else _solve_singular(statistics, weight_ridge, bias_ridge, bias)


def decompose_mse(statistics: ClassStatistics, classifier: LinearClassifier, ridge: Ridge) -> MSEDecomposition:
    """The loss of a last layer, split into L_NC1 + L_NC2/3 + L_LS^⊥ (HPD22 Prop. 1, Thm. 1, Thm. 2).

    With train statistics it says how far training is from the central path. With test statistics and the same trained
    classifier it splits the test loss: L_LS is then what a last layer fitted to the test features would leave, a
    property of the features alone, and L_LS^⊥ all that the trained layer loses to it, be it by stopping short of its
    own optimum or because that optimum is another one: the identity holds only about the optimum of the statistics at
    hand. Use ridge 0 for the plain test loss, the train ridge to compare term by term.

    Args:
        statistics: of the features that the layer reads.
        classifier: W̃; with bias None the decomposition is that of layers without bias.
        ridge: as for `least_squares_classifier`.

    Raises:
        ValueError: a ridge that is negative or not finite, or a classifier of another C or P than the statistics.
    """
    require_same_shape(statistics, classifier)
    classifier = classifier.to(statistics.class_means.device)
    optimum = least_squares_classifier(statistics, ridge, bias=classifier.bias is not None)
    nc1, nc23 = _loss_terms(statistics, optimum, *_ridges(ridge))
    own = _loss_terms(statistics, classifier, *_ridges(ridge))
    perp = _quadratic_form(statistics, classifier, optimum, *_ridges(ridge))
    loss, nc1, nc23, perp = torch.stack([torch.add(*own), nc1, nc23, perp]).tolist()
    return MSEDecomposition(loss=loss, loss_ls=nc1 + nc23, loss_nc1=nc1, loss_nc23=nc23, loss_ls_perp=perp)


def _ridges(ridge: Ridge) -> tuple[float, float]:
    pair = ridge if isinstance(ridge, tuple) else (ridge, ridge)
    if len(pair) != 2 or not all(0 <= value < math.inf for value in pair):
        raise ValueError(
            f"ridge: expected a finite number >= 0, or a pair (weight, bias) of them, got {ridge}. "
            "Derive it from the optimizer with ridge_from_weight_decay."
        )
    return pair


def _solve_regular(statistics: ClassStatistics, weight_ridge: float, bias_ridge: float) -> LinearClassifier | None:
    """W̃_LS where N = Σ_W + λ_W I is safely positive definite, else None; bias_ridge inf is a layer without bias.

    The best bias for W is b = (1 − β)(π − W μ_G) with β = λ_b/(1 + λ_b): 0 for a free bias, 1 for none. Put into L,
    that leaves L(W) = ½ ‖W [L_N, G] − [0, D]‖_F² with N = L_N L_Nᵀ,

        G = [M̄ diag(√π), √β μ_G]   (P, C+1),        D = [diag(√π) − π√πᵀ, √β π]   (C, C+1).

    With T = L_N^{-1} G = U diag(s) Vᵀ the minimiser is W = D V diag(s/(1 + s²)) Uᵀ L_N^{-1}.
    """
    covariance = statistics.within_class_covariance
    ridged = covariance + weight_ridge * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    triangle, info = torch.linalg.cholesky_ex(ridged)
    # L_jj²/N_jj is the share of feature j's variance that the features before it do not explain: where rounding alone
    # could make it up, Σ_W does not determine that direction.
    unexplained = triangle.diagonal().square() / ridged.diagonal()
    if bool(info) or not bool((unexplained > len(covariance) * _ROUND_OFF).all()):
        return None
    shrink = 1.0 if math.isinf(bias_ridge) else bias_ridge / (1 + bias_ridge)
    frequencies, mean = statistics.frequencies, statistics.global_mean
    roots = frequencies.sqrt()
    factor = torch.cat([roots[:, None] * statistics.centered_class_means, shrink**0.5 * mean[None]])
    whitened = torch.linalg.solve_triangular(triangle, factor.T, upper=False)
    left, scales, right = torch.linalg.svd(whitened, full_matrices=False)
    # D V without D: diag(√π) V₁ − π (√πᵀ V₁) + √β π v₂ᵀ, V₁ the rows of V that belong to classes, v₂ᵀ the last.
    by_class, by_mean = right[:, :-1].T, right[:, -1]
    targets = roots[:, None] * by_class + torch.outer(frequencies, shrink**0.5 * by_mean - roots @ by_class)
    rotated = (targets * (scales / (1 + scales.square()))) @ left.T
    weight = torch.linalg.solve_triangular(triangle, rotated, upper=False, left=False)
    bias = None if math.isinf(bias_ridge) else (1 - shrink) * (frequencies - weight @ mean)
    return LinearClassifier(weight, bias)


def _solve_singular(
    statistics: ClassStatistics, weight_ridge: float, bias_ridge: float, bias: bool
) -> LinearClassifier:
    """W̃_LS = Y F^†, with F and Y as at the head of this file; F and the rank decision as the public docstring says."""
    num_classes, num_features = statistics.class_means.shape
    roots = statistics.frequencies.sqrt()
    means = roots[:, None] * statistics.class_means
    ridge = [weight_ridge] * num_features + [bias_ridge] * bias
    if bias:
        means = torch.cat([means, roots[:, None]], 1)
    deviations = _covariance_factor(statistics.within_class_covariance)
    deviations = torch.nn.functional.pad(deviations, (0, int(bias)))
    penalty = torch.diag(torch.tensor(ridge, dtype=means.dtype, device=means.device).sqrt())
    factor = torch.cat([means, deviations, penalty])
    left, scales, right = torch.linalg.svd(factor, full_matrices=False)
    certain = scales > max(factor.shape) * _ROUND_OFF * scales[0]
    # Y has entries in the classes' places only, so only those rows of the left factor meet it.
    targets = roots[:, None] * left[:num_classes, certain]
    solution = (targets / scales[certain]) @ right[certain]
    return LinearClassifier(solution[:, :num_features], solution[:, num_features] if bias else None)


def _covariance_factor(covariance: torch.Tensor) -> torch.Tensor:
    """Rows R (r, P) with RᵀR = Σ_W on its certain range, decided where each feature has unit variance."""
    deviation = covariance.diagonal().sqrt()
    scale = torch.where(deviation > 0, deviation, 1.0)
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance / scale / scale[:, None])
    certain = eigenvalues > len(eigenvalues) * _ROUND_OFF * eigenvalues[-1]
    return eigenvalues[certain].sqrt()[:, None] * eigenvectors[:, certain].T * scale


def _loss_terms(
    statistics: ClassStatistics, classifier: LinearClassifier, weight_ridge: float, bias_ridge: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """½ tr{W̃ (Σ̃_W + λI) W̃ᵀ} and ½ Σ_c π_c ‖W̃ μ̃_c − e_c‖², whose sum is L, for any layer: W̃ of a class's examples
    spreads about W̃ μ̃_c."""
    weight, frequencies = classifier.weight, statistics.frequencies
    spread = ((weight @ statistics.within_class_covariance) * weight).sum()
    penalty = weight_ridge * weight.square().sum()
    if classifier.bias is not None:
        penalty = penalty + bias_ridge * classifier.bias.square().sum()
    misfit = weight.new_zeros(())
    height = max(1, 2**22 // len(weight))
    for start in range(0, len(weight), height):
        rows = classifier(statistics.class_means[start : start + height])
        rows.diagonal(start).sub_(1)
        misfit += frequencies[start : start + height] @ rows.square().sum(1)
    return (spread + penalty) / 2, misfit / 2


def _quadratic_form(
    statistics: ClassStatistics,
    classifier: LinearClassifier,
    optimum: LinearClassifier,
    weight_ridge: float,
    bias_ridge: float,
) -> torch.Tensor:
    """½ tr{Δ (Σ̃_T + μ̃_G μ̃_Gᵀ + λI) Δᵀ} with Δ = [V, d] = W̃ − W̃_LS: Δ μ̃_G = V μ_G + d, and Σ̃_T has no bias part."""
    step = classifier.weight - optimum.weight
    at_mean = step @ statistics.global_mean
    penalty = weight_ridge * step.square().sum()
    if classifier.bias is not None and optimum.bias is not None:
        bias_step = classifier.bias - optimum.bias
        at_mean = at_mean + bias_step
        penalty = penalty + bias_ridge * bias_step.square().sum()
    covariances = ((step @ statistics.total_covariance) * step).sum()
    return (covariances + at_mean.square().sum() + penalty) / 2
