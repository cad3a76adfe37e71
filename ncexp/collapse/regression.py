"""Least squares of any targets: the optimal last layer, and what a last layer loses to it.

Objective: L(W, b) = ½ Ave_i ‖W h_i + b − y_i‖² + (λ_W/2) ‖W‖_F² + (λ_b/2) ‖b‖², y_i ∈ R^m. The ½ and the sum over the
targets belong to it. With h̃ = [h; 1], W̃ = [W, b], S = Ave h̃h̃ᵀ, T = Ave y h̃ᵀ and Λ = diag(λ_W, …, λ_W, λ_b),

    W̃_LS = T (S + Λ)⁻¹,    L = L_LS + L_LS^⊥,    L_LS = ½ {Ave ‖y‖² − tr(W̃_LS Tᵀ)},
    L_LS^⊥ = ½ tr{(W̃ − W̃_LS)(S + Λ)(W̃ − W̃_LS)ᵀ} >= 0.

One-hot targets make this HPD22's Prop. 1 and Thm. 1 (Han, Papyan & Donoho 2022), and least_squares.py the same numbers.

**Centred.** The best bias for W is b*(W) = (1 − β)(ȳ − W h̄), β = λ_b/(1 + λ_b): 0 for a free bias, 1 for none. What is
left is, with C the covariances, a problem in W alone,

    L = ½ {tr Σ_Y + β ‖ȳ‖² − 2 tr(W Kᵀ) + tr(W G Wᵀ)} + ½ (1 + λ_b) ‖b − b*(W)‖²,
    G = C_hh + β h̄h̄ᵀ + λ_W I,    K = C_yh + β ȳh̄ᵀ,    W_LS = K G⁺,

so that with λ_b = 0 the means enter nothing but b. G⁺ is taken on the directions that the statistics determine
(known_directions.py); of all layers with these predictions W̃_LS has the least ‖[W, b]‖_F where λ_W = 0.

**Span and spread.** Classes split L_LS into what class means cannot reach and what spreads about them. For real targets
the counterpart of the class mean is the best linear function of the target, ĥ(y) = h̄ + C_hy Σ_Y⁺ (y − ȳ), and

    L_LS = span + spread,    span = ½ Ave ‖W_LS ĥ(y) + b_LS − y‖²,
    spread = ½ tr{W_LS (C_hh − C_hy Σ_Y⁺ C_yh) W_LSᵀ} + (λ_W/2) ‖W_LS‖² + (λ_b/2) ‖b_LS‖².

With one-hot targets ĥ(y) is the class mean, span is L_NC2/3 and spread is L_NC1, for classes of any size.

**Data and decay.** The penalty stands in L, L_LS and L_LS^⊥; each has both parts, as in the table of least_squares.py.

**How many digits.** Terms come from moments: they are known to ε of ½ Ave ‖y − ȳ‖² and of ‖W‖² tr C_hh, so 1 − R² is
known to about 1e-15, not to a relative error. A fit that is exact has a data part of 0 to that, of either sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from ncexp.collapse.checks import all_finite, require_finite
from ncexp.collapse.known_directions import KnownDirections, known_directions, units_rounding
from ncexp.collapse.least_squares import PathDistance, Ridge, ridge_pair
from ncexp.collapse.linear_algebra import ROUND_OFF
from ncexp.collapse.target_statistics import TargetStatistics

# Of L: what is allowed for an S + Λ that is all but singular in float64, as in least_squares.py.
IDENTITY = 1e-9


class LinearMap(NamedTuple):
    """h ↦ W h + b in float64; unlike `LinearClassifier` with as few as one output."""

    weight: Tensor
    """W, (m, P)."""
    bias: Tensor | None
    """b, (m,), or None for a layer without one."""


@dataclass(frozen=True, kw_only=True)
class TargetDecomposition:
    """L = L_LS + L_LS^⊥, each with the ½ and in the units of L."""

    loss: float
    """L of the layer, from its definition and from nothing below."""
    loss_ls: float
    """L_LS, the least that any last layer could reach on these features."""
    loss_ls_span: float
    """½ Ave ‖W_LS ĥ(y) + b_LS − y‖²: targets that the best layer cannot reach from ĥ(y); L_NC2/3 of one-hot targets."""
    loss_ls_spread: float
    """½ tr{W_LS (C_hh − C_hy Σ_Y⁺ C_yh) W_LSᵀ} and the penalty: variation about ĥ(y); L_NC1 of one-hot targets."""
    loss_ls_perp: float
    """L_LS^⊥ = ½ tr{(W̃ − W̃_LS)(S + Λ)(W̃ − W̃_LS)ᵀ}: how far the layer is from the central path; never negative."""
    loss_data: float
    """½ Ave ‖W̃h̃ − y‖²."""
    loss_decay: float
    """(λ_W/2) ‖W‖² + (λ_b/2) ‖b‖²."""
    loss_ls_data: float
    """½ Ave ‖W̃_LS h̃ − y‖²."""
    loss_ls_decay: float
    """(λ_W/2) ‖W_LS‖² + (λ_b/2) ‖b_LS‖²."""
    loss_ls_perp_data: float
    """½ Ave ‖(W̃ − W̃_LS) h̃‖²."""
    loss_ls_perp_decay: float
    """(λ_W/2) ‖W − W_LS‖² + (λ_b/2) ‖b − b_LS‖²."""
    loss_rounding: float
    """A bound on |L − L_LS − L_LS^⊥|: 1e-9 of L, what float64 leaves of the sums, and q √(2L) + ½q², q the root mean
    square of the layer's outputs on directions that are left out, which are rounding of the features."""

    @property
    def residual(self) -> float:
        """|L − L_LS − L_LS^⊥| / L, 0 where L is 0: a live check, as L is computed apart from the two."""
        gap = abs(self.loss - self.loss_ls - self.loss_ls_perp)
        return gap / abs(self.loss) if gap else 0.0


@dataclass(frozen=True, eq=False)
class TargetErrors:
    """How well a layer predicts each of the m targets; float64."""

    mean_squared_errors: Tensor
    """Ave (ŷ_k − y_k)², (m,), in the square of the target's unit; without the ½ of L."""
    r_squared: Tensor
    """R²_k = 1 − Ave (ŷ_k − y_k)² / Ave (y_k − ȳ_k)², (m,): 1 for an exact fit, 0 for the mean, without a lower bound.
    nan where the target is constant to its own rounding."""


def least_squares_map(statistics: TargetStatistics, ridge: Ridge, bias: bool = True) -> LinearMap:
    """W̃_LS, the last layer that minimises L for these features and targets.

    Args:
        statistics: joint moments of the features that the layer reads and of the targets.
        ridge: λ >= 0 for weight and bias alike, or (λ_W, λ_b); see `ridge_from_weight_decay`.
        bias: False for a layer without bias; λ_b is then of no account.

    Raises:
        ValueError: a ridge that is negative or not finite; features or targets too large to be squared in float64.

    >>> from ncexp.collapse.target_statistics import target_statistics
    >>> features = torch.tensor([[0.0], [1.0], [2.0]])
    >>> weight, bias = least_squares_map(target_statistics(features, 3 * features + 1), ridge=0.0)
    >>> round(float(weight), 12), round(float(bias), 12)
    (3.0, 1.0)
    """
    ridges = ridge_pair(ridge)
    if not statistics.hold_squares:
        raise ValueError("statistics: expected finite second moments, got an overflow. The training has diverged.")
    return _Problem(statistics, ridges, bias).minimizer


def decompose_regression(
    statistics: TargetStatistics, weight: Tensor, bias: Tensor | None, ridge: Ridge
) -> TargetDecomposition:
    """The loss of a last layer, split into L_LS + L_LS^⊥, for targets of any kind.

    The identity holds for every W̃ and λ >= 0, to `loss_rounding`; where S + Λ is well conditioned, to 1e-12 of L.

    Args:
        statistics: joint moments of the features that the layer reads and of the targets.
        weight: W, (m, P), any floating dtype.
        bias: b, (m,), or None for a layer without one, which is compared with the best of those.
        ridge: λ, as for `least_squares_map`.

    Returns:
        Twelve floats; all nan where float64 does not hold the squares, so that a run that diverges can be recorded.

    Raises:
        ValueError: a ridge that is negative or not finite; a layer of another m or P, or with values not finite.
    """
    layer, ridges = _checked_layer(statistics, weight, bias), ridge_pair(ridge)
    if not statistics.hold_squares:
        return TargetDecomposition(**dict.fromkeys((field.name for field in fields(TargetDecomposition)), math.nan))
    optimum = (problem := _Problem(statistics, ridges, bias is not None)).minimizer
    loss_data, loss_decay = _data(statistics, layer), problem.penalty(layer)
    ls_data, ls_decay = _data(statistics, optimum), problem.penalty(optimum)
    off = LinearMap(layer.weight - optimum.weight, _difference(layer.bias, optimum.bias))
    span, spread = problem.span_and_spread()
    perp, perp_decay = problem.distance(layer), problem.penalty(off)
    loss = loss_data + loss_decay
    freedom = problem.freedom(layer)
    numbers = {
        "loss": loss,
        "loss_ls": ls_data + ls_decay,
        "loss_ls_span": span,
        "loss_ls_spread": spread + ls_decay,
        "loss_ls_perp": perp,
        "loss_data": loss_data,
        "loss_decay": loss_decay,
        "loss_ls_data": ls_data,
        "loss_ls_decay": ls_decay,
        "loss_ls_perp_data": _mean_square(statistics, off) if perp_decay > 0 else perp,
        "loss_ls_perp_decay": perp_decay,
        "loss_rounding": freedom * (2 * loss).clamp(min=0).sqrt()
        + freedom.square() / 2
        + IDENTITY * loss.abs()
        + _rounding_of_sums(statistics, layer)
        + _rounding_of_sums(statistics, optimum),
    }
    return TargetDecomposition(**{name: float(value) for name, value in numbers.items()})


def target_errors(statistics: TargetStatistics, weight: Tensor, bias: Tensor | None) -> TargetErrors:
    """Mean squared error and R² by target, from moments; on test statistics the variance in R² is that of the test.

    Raises:
        ValueError: a layer of another m or P, or with values not finite.
    """
    layer = _checked_layer(statistics, weight, bias)
    errors = _spread_of_residuals(statistics, layer) + _residual_of_means(statistics, layer).square()
    variances = statistics.target_covariance.diagonal()
    constant = variances <= (statistics.target_eps * statistics.target_mean).square()
    return TargetErrors(errors, torch.where(constant, torch.nan, 1 - errors / variances))


def distance_to_regression_path(
    statistics: TargetStatistics, weight: Tensor, bias: Tensor | None, ridge: Ridge
) -> PathDistance:
    """The last layer beside the least-squares one of the same features, both with the same λ; as `distance_to_path`.

    Raises:
        ValueError: what `decompose_regression` refuses.
    """
    terms = decompose_regression(statistics, weight, bias, ridge)
    if math.isnan(terms.loss):
        return PathDistance(perp_share=math.nan, classifier_distance=math.nan, prediction_angle=math.nan)
    layer = _checked_layer(statistics, weight, bias)
    optimum = least_squares_map(statistics, ridge, bias is not None)
    off = LinearMap(layer.weight - optimum.weight, _difference(layer.bias, optimum.bias))
    total = max(terms.loss, terms.loss_ls + terms.loss_ls_perp)
    sizes = [float(_mean_square(statistics, one)) ** 0.5 for one in (layer, optimum)]
    angle = math.nan  # of a layer that predicts 0 for everything, which points nowhere
    if all(size > 0 for size in sizes):
        mine, best = (_divided(one, size) for one, size in zip((layer, optimum), sizes, strict=True))
        apart = LinearMap(mine.weight - best.weight, _difference(mine.bias, best.bias))
        half = float(_mean_square(statistics, apart).clamp(min=0)) ** 0.5 / 2
        angle = math.degrees(2 * math.asin(min(half, 1.0)))
    of_optimum = _length(optimum)
    return PathDistance(
        perp_share=terms.loss_ls_perp / total if total else math.nan,
        classifier_distance=_length(off) / of_optimum if of_optimum else math.nan,
        prediction_angle=angle,
    )


class _Problem:
    """The problem with the bias eliminated; see the module's docstring for β, G and K."""

    def __init__(self, statistics: TargetStatistics, ridges: tuple[float, float], bias: bool) -> None:
        self._statistics, self._bias = statistics, bias
        self._weight_ridge, self._bias_ridge = ridges[0], ridges[1] if bias else 0.0
        self._shrink = ridges[1] / (1 + ridges[1]) if bias else 1.0
        mean, covariance = statistics.feature_mean, statistics.feature_covariance
        identity = torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        self._moments = covariance + self._shrink * torch.outer(mean, mean) + ridges[0] * identity
        self._cross = statistics.cross_covariance + self._shrink * torch.outer(statistics.target_mean, mean)
        rounding = units_rounding(statistics.feature_eps, mean, covariance.diagonal())
        self._known = known_directions(self._moments, rounding)
        self.minimizer = self._minimize()

    def _minimize(self) -> LinearMap:
        """W̃_LS; solved twice, as what the first leaves of K tells its rounding."""
        inverse = self._known.inverse_root
        weight = self._cross @ inverse @ inverse.T
        weight = weight + (self._cross - weight @ self._moments) @ inverse @ inverse.T
        if self._weight_ridge == 0 and self._known.left_out.shape[1]:
            weight = self._shortest(weight)
        return LinearMap(weight, self._best_bias(weight) if self._bias else None)

    def _shortest(self, weight: Tensor) -> Tensor:
        """Of the layers with the same predictions that of least ‖[W, b]‖_F: less its part on those that read nothing.

        A layer w that reads rounding has the constant wᵀh̄, which a free bias −wᵀh̄ takes away; otherwise that is
        rounding as well, or w would not be left out.
        """
        mean, left_out = self._statistics.feature_mean, self._known.left_out
        left_out = left_out / torch.linalg.vector_norm(left_out, dim=0)
        free = self._bias and self._shrink == 0
        constants = -(mean @ left_out) if free else torch.zeros_like(left_out[0])
        idle = torch.linalg.qr(torch.cat([left_out, constants[None]])).Q
        bias = self._best_bias(weight) if free else torch.zeros_like(weight[:, 0])
        along = torch.cat([weight, bias[:, None]], dim=1) @ idle
        return weight - along @ idle[:-1].T

    def _best_bias(self, weight: Tensor) -> Tensor:
        """b*(W) = (1 − β)(ȳ − W h̄)."""
        return (1 - self._shrink) * (self._statistics.target_mean - weight @ self._statistics.feature_mean)

    def distance(self, layer: LinearMap) -> Tensor:
        """L_LS^⊥ = ½ tr{(W − W_LS) G (W − W_LS)ᵀ} + ½ (1 + λ_b) ‖b − b*(W)‖²: squares only."""
        along = _half_square((layer.weight - self.minimizer.weight) @ self._known.root)
        if layer.bias is None:
            return along
        return along + (1 + self._bias_ridge) * _half_square(layer.bias - self._best_bias(layer.weight))

    def penalty(self, layer: LinearMap) -> Tensor:
        """(λ_W/2) ‖W‖² + (λ_b/2) ‖b‖²."""
        of_weight = self._weight_ridge * _half_square(layer.weight)
        return of_weight if layer.bias is None else of_weight + self._bias_ridge * _half_square(layer.bias)

    def freedom(self, layer: LinearMap) -> Tensor:
        """q: outputs on what is left out, each of whose directions has a second moment of at most 1; and what W h̄ + b
        loses to rounding."""
        mean = self._statistics.feature_mean
        sizes = torch.linalg.vector_norm(layer.weight) * torch.linalg.vector_norm(mean)
        constants = len(mean) * ROUND_OFF * (sizes + torch.linalg.vector_norm(self._statistics.target_mean))
        return torch.linalg.vector_norm(layer.weight @ self._known.rounding_root) + constants

    def span_and_spread(self) -> tuple[Tensor, Tensor]:
        """Of the minimiser; without its penalty.

        With Σ_Y = Y Yᵀ on its known directions, Y⁺ the inverse root and F = C_hy Y⁺ the part of h that y explains:
        ĥ(y) has covariance F Fᵀ, and W ĥ(y) − y that of W F − Y.
        """
        statistics, weight = self._statistics, self.minimizer.weight
        of_targets: KnownDirections = known_directions(
            statistics.target_covariance,
            units_rounding(statistics.target_eps, statistics.target_mean, statistics.target_covariance.diagonal()),
        )
        explained = statistics.cross_covariance.T @ of_targets.inverse_root
        about = statistics.feature_covariance - explained @ explained.T
        span = _half_square(weight @ explained - of_targets.root)
        span = span + _half_square(_residual_of_means(statistics, self.minimizer))
        return span, ((weight @ about) * weight).sum() / 2


def _data(statistics: TargetStatistics, layer: LinearMap) -> Tensor:
    """½ Ave ‖W h + b − y‖²."""
    return _spread_of_residuals(statistics, layer).sum() / 2 + _half_square(_residual_of_means(statistics, layer))


def _spread_of_residuals(statistics: TargetStatistics, layer: LinearMap) -> Tensor:
    """Variance of ŷ_k − y_k by target, (m,): the diagonal of W C_hh Wᵀ − 2 W C_hy + Σ_Y."""
    weight, cross = layer.weight, statistics.cross_covariance
    return ((weight @ statistics.feature_covariance - 2 * cross) * weight).sum(1) + (
        statistics.target_covariance.diagonal()
    )


def _residual_of_means(statistics: TargetStatistics, layer: LinearMap) -> Tensor:
    """W h̄ + b − ȳ, (m,)."""
    return _at_mean(statistics, layer) - statistics.target_mean


def _at_mean(statistics: TargetStatistics, layer: LinearMap) -> Tensor:
    at_mean = layer.weight @ statistics.feature_mean
    return at_mean if layer.bias is None else at_mean + layer.bias


def _mean_square(statistics: TargetStatistics, layer: LinearMap) -> Tensor:
    """½ Ave ‖W h + b‖²."""
    about_mean = ((layer.weight @ statistics.feature_covariance) * layer.weight).sum() / 2
    return about_mean + _half_square(_at_mean(statistics, layer))


def _divided(layer: LinearMap, size: float) -> LinearMap:
    return LinearMap(layer.weight / size, None if layer.bias is None else layer.bias / size)


def _length(layer: LinearMap) -> float:
    """‖[W, b]‖_F."""
    return math.sqrt(sum(float(part.square().sum()) for part in layer if part is not None))


def _half_square(values: Tensor) -> Tensor:
    return values.square().sum() / 2


def _difference(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else one - other


def _rounding_of_sums(statistics: TargetStatistics, layer: LinearMap) -> Tensor:
    """A bound on what rounding to ε adds to L: (P + m)² ε (‖W‖² by unit times C_ii, and tr Σ_Y)."""
    width = statistics.num_features + statistics.num_targets
    moments = layer.weight.square().sum(0) @ statistics.feature_covariance.diagonal()
    return width**2 * ROUND_OFF * (moments + statistics.target_covariance.trace())


def _checked_layer(statistics: TargetStatistics, weight: Tensor, bias: Tensor | None) -> LinearMap:
    """The layer in float64 where the statistics are."""
    expected = tuple(statistics.cross_covariance.shape)
    if tuple(weight.shape) != expected or not weight.is_floating_point():
        raise ValueError(
            f"weight: expected a floating tensor of shape (m, P) = {expected} as the statistics, got "
            f"{tuple(weight.shape)} of {weight.dtype}. Measure the features that this layer reads."
        )
    if bias is not None and tuple(bias.shape) != expected[:1]:
        raise ValueError(f"bias: expected shape {expected[:1]}, got {tuple(bias.shape)}. Pass None for none.")
    layer = [None if one is None else one.detach().to(statistics.feature_mean) for one in (weight, bias)]
    for name, values in zip(("weight", "bias"), layer, strict=True):
        if values is not None:
            require_finite(name, all_finite(values))
    return LinearMap(*layer)  # type: ignore[arg-type]
