"""Global minima of free features behind linear layers, in closed form but for one root of a scalar equation a mode.

The model, with its objective as the training loop has it, decay of the parameters themselves and not of their averages:

    F = (1/n) Σ_i ℓ(W_k … W_1 h_i + b, y_i) + ½ λ_H ‖H‖² + ½ Σ_j λ_j ‖W_j‖² + ½ λ_b ‖b‖²

with H (n, P), W_1 to W_{k−1} (P, P), W_k (m, P). It has L = k + 1 factors. Whatever the loss, only the product
Z = W_k … W_1 Hᵀ (m, n) is seen by it. Of all factors with that product the least penalty is that of aligned singular
vectors, and of s_1 ⋯ s_L = z in each mode (arithmetic and geometric mean), so

    min ½ Σ_j λ_j ‖·‖² = (L/2) Λ Σ_i σ_i(Z)^{2/L},    Λ = (λ_H λ_1 ⋯ λ_k)^{1/L},    s_j = (Λ/λ_j)^½ σ_i^{1/L},

√(λ_H λ_W) times the nuclear norm for one layer; for more a power below 1 of the singular values, which is not convex.

The MSE (s/2n) ‖Z + b1ᵀ − Y‖². With Y = U diag(y) Vᵀ, less its mean over examples where the bias is free, von Neumann's
inequality aligns Z with Y, since the penalty is a function of the singular values: each is the least of

    (s/2n) (z − y)² + (L/2) Λ z^{2/L},

z = (y − n Λ/s)₊ for L = 2. For L > 2 a local minimum is 0, and the other, where there is one, the larger root of
(s/n)(y − z) z^{1 − 2/L} = Λ: modes vanish by a jump. Of at most P modes the largest are kept, as the gain grows with y.
Without bias, one-hot Y has y_c = √n_c and orthogonal classes: the theorem of Dang et al. 2023 for unequal classes.

A bias that decays. For given Z it leaves κ = λ_b/(s + λ_b) of the mean residual's square. If the targets' mean ȳ is 0,
b = 0: a Z with a mean has larger singular values than without it. If it is not, and L = 2, the problem is convex, and
the solution for a free bias stays one, with b = ȳ s/(s + λ_b), if (s/n)(Y − Z) with κ ȳ for its mean is a subgradient
of Λ ‖Z‖_*: so it is for classes of equal size unless λ_b is large. Otherwise no closed form is known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.checks import check_free_targets

#: A mean, or a product of singular vectors, of float64 numbers that is 0; of targets that were float32 once.
_ROUNDING = 1e-7


@dataclass(frozen=True, eq=False)
class DeepMinimum:
    """A global minimum of F; float64."""

    loss: float
    """The least value of F."""
    scales: Tensor
    """Singular values of the product W_k … W_1 Hᵀ, descending."""
    factors: list[Tensor]
    """H (n, P), W_1, ..., W_{k−1} (P, P), W_k (m, P); the rotations between them are free, here the first units."""
    bias: Tensor | None
    """b, (m,), or None."""

    @property
    def outputs(self) -> Tensor:
        """W_k … W_1 h_i, (n, m), without the bias: the same for all minima, unless a mode vanishes at a tie."""
        return product_of(self.factors)

    @property
    def features(self) -> Tensor:
        """The inputs of W_k, (n, P)."""
        return product_of(self.factors[:-1])


def product_of(factors: Sequence[Tensor]) -> Tensor:
    """H W_1ᵀ ⋯ W_kᵀ, (n, m), of H (n, P), W_1, ..., W_k."""
    product, *weights = factors
    for weight in weights:
        product = product @ weight.T
    return product


def deep_minimum(
    targets: Tensor, num_features: int, decays: Sequence[float], bias_decay: float | None = 0.0, scale: float = 1.0
) -> DeepMinimum:
    """The minimum of F with the loss (s/2) ‖ŷ − y‖² (the module's docstring has the derivation).

    Args:
        targets: y_i, (n, m), any floating dtype; one-hot rows of classes of any sizes.
        num_features: P >= 1, the width of every layer.
        decays: λ_H, λ_1, ..., λ_k, each above 0; at 0 there is no minimum, only an infimum.
        bias_decay: λ_b; 0 for a bias that does not decay, None for a layer without one.
        scale: s of the loss (s/2n) ‖·‖².

    Raises:
        ValueError: targets of another shape or not finite, P < 1, fewer than two decays, numbers that are not positive
            and finite, and a bias that decays where no closed form is known.
    """
    _check(targets, num_features, decays, bias_decay, scale)
    targets = targets.detach().to(torch.float64)
    mean = targets.mean(0) if bias_decay is not None else torch.zeros_like(targets[0])
    left, sizes, right = torch.linalg.svd((targets - mean).T, full_matrices=False)
    kept = min(len(sizes), num_features)
    count, mean_decay = len(decays), _geometric_mean(decays)
    values = [_least(float(y), scale / len(targets), mean_decay, count) for y in sizes[:kept]]
    scales = targets.new_tensor([z for z, _ in values])
    loss = sum(value for _, value in values) + scale / (2 * len(targets)) * float(sizes[kept:].square().sum())
    bias = None
    if bias_decay is not None:
        bias, share = mean * (scale / (scale + bias_decay)), bias_decay / (scale + bias_decay)
        loss += share * scale / 2 * float(mean.square().sum())
        if share and float(mean.norm()) > _ROUNDING * float(targets.norm()) / len(targets) ** 0.5:
            residual = (left[:, :kept] * scales) @ right[:kept] - (targets - mean * (1 - share)).T
            _refuse_other_bias(residual * scale / len(targets), left[:, :kept][:, scales > 0], mean, mean_decay, count)
    factors = _factors(left[:, :kept], scales, right[:kept], num_features, decays)
    return DeepMinimum(loss, scales, factors, bias)


def entropy_collapse(
    num_classes: int, class_size: int, num_features: int, decays: Sequence[float], smoothing: float = 0.0
) -> DeepMinimum:
    """The minimum of F with cross-entropy, one layer and C classes of N examples: a simplex ETF (Zhu et al. 2021, 3.1).

    The problem in Z is convex (L = 2), and unchanged by a permutation of classes or of a class's examples, so a
    solution is: Z = α (I − 11ᵀ/C) Y, with C − 1 singular values α √N. What is left,

        log(1 + (C − 1) e^{−α}) + ε (C − 1)/C · α + √(λ_H λ_W) (C − 1) √N α,

    is least at α = log((C − 1)(1 − p)/p), p = (C − 1)(ε/C + √(λ_H λ_W N)), the share of the wrong classes; at α = 0
    where p is (C − 1)/C or more. A bias is 0, or without decay any multiple of 1. With more layers no theorem gives the
    minimum: the simplex is stationary, and other solutions can be lower (docs/free_features.md).

    Args:
        num_classes: C >= 2; class_size: N of every class; num_features: P >= C − 1.
        decays: λ_H and λ_W, each above 0.
        smoothing: ε of targets (1 − ε) onehot + ε/C, from 0 to below 1.

    Raises:
        ValueError: numbers outside these bounds.
    """
    if not (num_classes >= 2 and class_size >= 1 and num_features >= num_classes - 1 and 0 <= smoothing < 1):
        raise ValueError(
            "entropy_collapse: expected C >= 2, N >= 1, P >= C − 1 and a smoothing from 0 to below 1, got C = "
            f"{num_classes}, N = {class_size}, P = {num_features}, {smoothing}. No simplex of C corners fits otherwise."
        )
    if len(decays) != 2:
        raise ValueError(
            f"decays: expected λ_H and λ_W, got {len(decays)} numbers. Of more layers the minimum is not known."
        )
    _check_positive("decays", decays)
    labels = torch.eye(num_classes, dtype=torch.float64).repeat_interleave(class_size, 0)
    cost = (num_classes - 1) * _geometric_mean(decays) * class_size**0.5
    wrong = (num_classes - 1) * smoothing / num_classes + cost
    margin = math.log((num_classes - 1) * (1 - wrong) / wrong) if wrong < 1 - 1 / num_classes else 0.0
    left, sizes, right = torch.linalg.svd((labels - 1 / num_classes).T, full_matrices=False)
    scales = margin * sizes[: num_classes - 1]
    factors = _factors(left[:, : num_classes - 1], scales, right[: num_classes - 1], num_features, decays)
    loss = math.log1p((num_classes - 1) * math.exp(-margin)) + wrong * margin
    return DeepMinimum(loss, scales, factors, labels.new_zeros(num_classes))


def _geometric_mean(numbers: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def _least(y: float, curvature: float, decay: float, count: int) -> tuple[float, float]:
    """(z, value) of min over z >= 0 of (a/2) (z − y)² + (L/2) Λ z^{2/L}; a: curvature, Λ: decay, L: count."""
    rest = 1 - 2 / count
    if count == 2:
        z = max(y - decay / curvature, 0.0)
    else:
        from scipy.optimize import brentq  # not with the package: it takes longer to import than all of it

        def slope(z: float) -> float:
            return float(curvature * (y - z) * z**rest - decay)

        steepest = y * rest / (1 + rest)
        z = brentq(slope, steepest, y, xtol=1e-300, rtol=1e-15) if slope(steepest) > 0 else 0.0
    value = curvature / 2 * (z - y) ** 2 + count / 2 * decay * z ** (2 / count)
    nothing = curvature / 2 * y**2
    return (z, value) if value < nothing else (0.0, nothing)


def _factors(left: Tensor, scales: Tensor, right: Tensor, width: int, decays: Sequence[float]) -> list[Tensor]:
    """H (n, P), W_1, ..., W_k of the product left diag(scales) right."""
    mean, kept = _geometric_mean(decays), len(scales)
    first, *inner, last = ((mean / one) ** 0.5 * scales ** (1 / len(decays)) for one in decays)
    table, weight = left.new_zeros(right.shape[1], width), left.new_zeros(len(left), width)
    table[:, :kept], weight[:, :kept] = right.T * first, left * last
    square = torch.nn.functional.pad
    return [table, *(square(torch.diag(one), (0, width - kept, 0, width - kept)) for one in inner), weight]


def _refuse_other_bias(residual: Tensor, kept: Tensor, mean: Tensor, decay: float, count: int) -> None:
    """Raises ValueError unless the negative residual is a subgradient of Λ ‖Z‖_* in a problem that is convex.

    residual: (s/n)(Z + b1ᵀ − Y), (m, n); kept: left singular vectors of Z; mean: ȳ; decay: Λ.
    """
    aside = kept.T @ mean
    small = bool(torch.linalg.matrix_norm(residual, ord=2) <= decay * (1 + _ROUNDING))
    if count > 2 or not small or bool(aside.norm() > _ROUNDING * mean.norm()):
        raise ValueError(
            "bias_decay: expected targets of mean 0, or one layer and classes of equal size, for a bias that decays, "
            "got others: their minimum has no closed form. Give the bias no decay, or leave it out."
        )


def _check(targets: Tensor, num_features: int, decays: Sequence[float], bias_decay: float | None, scale: float) -> None:
    check_free_targets(targets, num_features)
    if len(decays) < 2:
        raise ValueError(f"decays: expected λ_H, λ_1, ..., λ_k, at least two, got {len(decays)}. Pass one each.")
    _check_positive("decays", decays)
    _check_positive("scale", [scale])
    if bias_decay is not None and not 0 <= bias_decay < math.inf:
        raise ValueError(f"bias_decay: expected a finite number >= 0 or None, got {bias_decay}. 0: it does not decay.")


def _check_positive(name: str, numbers: Sequence[float]) -> None:
    if wrong := [one for one in numbers if not 0 < one < math.inf]:
        raise ValueError(f"{name}: expected finite numbers > 0, got {wrong[0]}. At 0 no minimum is attained.")
