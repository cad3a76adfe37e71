"""The least-squares layer as a differentiable function of the features, and the features renormalized: what a training
on the central path (HPD22 section 3) computes in every step.

On the path the loss is L_LS(H) = L(W̃_LS(H), H). In rows, with h̃_i = [h_i; 1] and Λ = diag(λ_W, …, λ_W, λ_b),

    W̃_LS = argmin ½‖A W̃ᵀ − B‖_F²,   A = [H̃/√n; Λ^{1/2}],   B = [Y/√n; 0],   so   W̃_LSᵀ = R⁻¹ Qᵀ B  with  A = QR.

Autograd goes through the factorisation. For any layer W̃, L_LS^⊥ = ½‖A (W̃ − W̃_LS)ᵀ‖² = ½‖Qᵀ(A W̃ᵀ − B)‖², since the
residual of the least-squares layer is orthogonal to the columns of Q. Of the layer just solved for that is rounding.

Renormalized, X = Σ_W^{-1/2} H, and the flow of the theory is dX/dt = Π(−∇_X L), Π the orthogonal projection on the
tangent space of {X : Σ_W(X) = I}. Two facts say how to compute that.
- The gradient splits into class means and deviations. That of the deviations is (1/n) D WᵀW, D times a symmetric
  matrix, all of which Π removes, for every W and every λ. What Π leaves is the mean of the gradient over each class:
  the gradient with the deviations held fixed.
- Differentiating through Σ_W^{-1/2} is no substitute: at λ = 0 the loss does not change under invertible maps of the
  features, so that gradient is the one without any renormalization. Σ_W^{-1/2}, too, is held fixed in a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import ClassStatistics, class_statistics
from ncexp.collapse.determined_range import DeterminedRange, determined_range
from ncexp.collapse.known_directions import known_directions, units_rounding
from ncexp.collapse.snr_spectrum import snr_singular_values
from ncexp.collapse.target_statistics import target_statistics


@dataclass(frozen=True, eq=False)
class PathStep:
    """What the least-squares layer makes of one batch; float64, all but `perp_share` differentiable in the features."""

    logits: Tensor
    """W_LS h_i + b_LS, (n, C)."""
    penalty: Tensor
    """(λ_W/2) ‖W_LS‖_F² + (λ_b/2) ‖b_LS‖², a scalar."""
    perp_share: Tensor
    """L_LS^⊥/L of the layer as solved, a scalar: rounding."""


def least_squares_step(
    features: Tensor, labels: Tensor, num_classes: int, ridge: tuple[float, float], bias: bool = True
) -> PathStep:
    """The logits of W̃_LS(H) and its penalty, differentiable through the solve (HPD22 Prop. 1, section 3).

    At λ_W = 0 the layer is that on the directions which the features' precision determines (determined_range.py); the
    directions are held fixed, the layer on them is differentiated.

    Args:
        features: h, (n, P), floating, at least two classes among them.
        labels: (n,) class of each example; a class may be missing. Or targets (n, m) of a regression, floating.
        num_classes: C, or m.
        ridge: (λ_W, λ_b), each ≥ 0.
        bias: False for a layer without bias.

    Raises:
        ValueError: at λ_W = 0, features of a single class, not finite, or whose squares float64 does not hold.
    """
    known = features
    if ridge[0] == 0:
        of_targets = labels.is_floating_point()
        basis = _basis_of_targets(features, bias) if of_targets else _basis(_known_range(features, labels))
        known = features.double() @ basis
    return _solved(known.double(), labels, num_classes, ridge, bias)


def renormalized_step(
    features: Tensor, labels: Tensor, num_classes: int, ridge: tuple[float, float], bias: bool = True
) -> PathStep:
    """The same of X = Σ_W^{-1/2} H, Σ_W and deviations from class means held fixed: its gradient in X is Π(∇_X L).

    Σ_W is that of the given features, on its range. Any other square root than the symmetric one turns X and changes
    neither logits, nor penalty, nor gradient in H. Args and Raises as `least_squares_step`, and:

    Raises:
        ValueError: class means outside the range of Σ_W, where no SNR matrix is defined.
    """
    known = _known_range(features, labels)
    if known.num_separating or known.rank < len(known.variances) or known.rank == 0:
        raise ValueError(
            f"features: expected centred class means within the range of the within-class covariance, got rank "
            f"{known.rank} in {known.units.sum()} units. Take more examples, or stop before the collapse is exact."
        )
    whitened = features.double() @ (_basis(known) / known.variances.sqrt())
    return _solved(_with_deviations_held(whitened, labels), labels, num_classes, ridge, bias)


def renormalizer(statistics: ClassStatistics) -> Tensor:
    """The symmetric Σ_W^{-1/2} on the range of Σ_W, (P, P) float64; X = H Σ_W^{-1/2} in rows.

    Raises ValueError where class means lie outside that range, as `snr_singular_values`.
    """
    snr_singular_values(statistics)
    known = determined_range(statistics)
    # F F^T is the pseudo-inverse of Σ_W; with F = U S V^T its root is U S U^T, without squaring anything.
    left, sizes, _ = torch.linalg.svd(_basis(known) / known.variances.sqrt(), full_matrices=False)
    return (left * sizes) @ left.T


def _solved(features: Tensor, labels: Tensor, num_classes: int, ridge: tuple[float, float], bias: bool) -> PathStep:
    num_examples, num_features = features.shape
    extended = torch.cat([features, features.new_ones(num_examples, 1)], dim=1) if bias else features
    one_hot = labels if labels.is_floating_point() else torch.nn.functional.one_hot(labels.long(), num_classes)
    targets = one_hot.to(features)
    penalties = features.new_tensor([*[ridge[0]] * num_features, *[ridge[1]] * bias])
    charged = penalties > 0
    design = torch.cat([extended / num_examples**0.5, penalties.sqrt().diag()[charged]])
    goal = torch.cat([targets / num_examples**0.5, features.new_zeros(int(charged.sum()), num_classes)])
    basis, triangle = torch.linalg.qr(design)
    layer = torch.linalg.solve_triangular(triangle, basis.T @ goal, upper=True)  # W̃_LSᵀ
    with torch.no_grad():
        residual = design @ layer - goal
        perp_share = (basis.T @ residual).square().sum() / residual.square().sum()
    return PathStep(extended @ layer, (penalties[:, None] * layer.square()).sum() / 2, perp_share)


def _known_range(features: Tensor, labels: Tensor) -> DeterminedRange:
    present, numbers = labels.unique(return_inverse=True)
    if len(present) < 2:
        raise ValueError(
            f"labels: expected at least two classes in a batch, got {present.tolist()}. Take larger batches."
        )
    statistics = class_statistics(features.detach(), numbers, len(present))
    if not statistics.hold_squares:
        raise ValueError("features: expected squares that float64 holds, got others. The training has diverged.")
    return determined_range(statistics)


def _basis_of_targets(features: Tensor, bias: bool) -> Tensor:
    """(P, k): h ↦ its coordinates on the directions that the features determine; see `ncexp.collapse.regression`."""
    rows = features.detach()
    if not bool(rows.double().square().sum().isfinite()):
        raise ValueError("features: expected squares that float64 holds, got others. The training has diverged.")
    statistics = target_statistics(rows, rows[:, :1])
    mean, moments = statistics.feature_mean, statistics.feature_covariance
    rounding = units_rounding(statistics.feature_eps, mean, moments.diagonal())
    return known_directions(moments if bias else moments + torch.outer(mean, mean), rounding).inverse_root


def _basis(known: DeterminedRange) -> Tensor:
    """(P, k): h ↦ its coordinates on the range, in units of the within-class deviations."""
    basis = known.directions.new_zeros(len(known.units), known.directions.shape[1])
    basis[known.units] = known.directions / known.scales[:, None]
    return basis


def _with_deviations_held(features: Tensor, labels: Tensor) -> Tensor:
    """The same values; each example's gradient is the mean over its class."""
    present, numbers, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(present), features.shape[1]).index_add(0, numbers, features)
    means = (sums / counts[:, None])[numbers]
    return means + (features - means).detach()
