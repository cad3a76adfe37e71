"""Neural regression collapse, NRC1 to NRC3, and the free-features minimum at which all three are 0.

Source: G. Andriopoulos, Z. Dong, L. Guo, Z. Zhao & K. Ross, *The Prevalence of Neural Collapse in Neural Multivariate
Regression*, NeurIPS 2024 (arXiv 2409.04180), "ADGZR24". Section 3.1 defines, for targets y ∈ R^m with covariance Σ_Y of
least eigenvalue λ_min, and h̃_i = h_i/‖h_i‖,

    NRC1 = Ave ‖h̃_i − Π h̃_i‖²,  Π the projection on the first m principal directions of the features,
    NRC2 = Ave ‖h̃_i − Π_W h̃_i‖²,  Π_W the projection on the row space of W,
    NRC3 = ‖W Wᵀ/‖W Wᵀ‖_F − (Σ_Y^{1/2} − √γ I)/‖Σ_Y^{1/2} − √γ I‖_F‖_F²  for some γ in (0, λ_min).

What to know when numbers are compared:

| point | ADGZR24 | here |
|---|---|---|
| what is divided by its length | h_i, not centred, though Π is that of the covariance | `nrc1`, `nrc2`: as printed |
| features with a mean h̄ | on an m-plane off the origin NRC1 is above 0 | also `nrc1_centered`, `nrc2_centered` |
| γ | the best for the last W, then kept for all epochs (A.3) | the best for each W; `nrc3` takes another |
| how the best γ is found | a grid of 1000 points in public code | in closed form |
| γ* = ((tr Σ_Y^{1/2} − tr W Wᵀ)/m)², Thm. F.1 | least ‖W Wᵀ − Σ_Y^{1/2} + √γ I‖², not NRC3 | not used |
| NRC3 of one target | 0 whatever W is; left out | nan |

Public codes of these experiments differ from the text in places: NRC3 without the square; NRC1 and NRC2 of h instead of
h̃; NRC2 divided by P. Compare numbers only where the formula is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.checks import all_finite, check_features, check_free_targets, require_finite
from ncexp.collapse.known_directions import known_directions, units_rounding
from ncexp.collapse.linear_algebra import ROUND_OFF
from ncexp.collapse.target_statistics import TargetStatistics


@dataclass(frozen=True, kw_only=True)
class RegressionCollapse:
    """Numbers in float64; 0 at collapse where nothing else is said."""

    nrc1: float
    """Ave ‖h̃ − Π h̃‖², h̃ = h/‖h‖, from 0 to 1 (ADGZR24, 3.1). nan where an h is 0 or the features are constant."""
    nrc2: float
    """Ave ‖h̃ − Π_W h̃‖², from 0 to 1 (ADGZR24, 3.1). nan where an h is 0 or W is 0."""
    nrc1_centered: float
    """NRC1 with h − h̄ for h. nan where an h equals h̄ to its rounding."""
    nrc2_centered: float
    """NRC2 with h − h̄ for h. nan where an h equals h̄ to its rounding, or W is 0."""
    nrc3: float
    """NRC3 at its best γ, from 0 to 4. nan where m = 1, W is 0, or the targets are constant."""
    gamma: float
    """That γ, from 0 to λ_min; λ_W λ_h of free features (ADGZR24, Cor. 4.2). nan as `nrc3`, and where every γ fits
    alike, because Σ_Y is a multiple of I."""
    explained_variance: float
    """Share of tr C_hh along the first m principal directions; 1 at collapse. nan where the features are constant."""
    rank_features: float
    """Directions in which the features vary by more than their rounding; m at collapse."""
    subspace_angle: float
    """The largest principal angle, in degrees, between the row space of W and the first m principal directions of the
    features. nan where W is 0 or the features are constant."""


class RegressionCollapseAccumulator:
    """NRC1 and NRC2 need the features again, as the directions are known only after a first pass.

    Args:
        statistics: of the features and targets that follow, or of the train split where features of test follow.
        weight: W, (m, P), of the last layer.

    Raises:
        ValueError: a weight of another m or P, or with values not finite; moments that float64 does not hold.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, statistics: TargetStatistics, weight: Tensor) -> None:
        if weight.shape != statistics.cross_covariance.shape:
            raise ValueError(
                f"weight: expected shape (m, P) = {tuple(statistics.cross_covariance.shape)} as the statistics, got "
                f"{tuple(weight.shape)}. Measure the features that this layer reads."
            )
        require_finite("weight", all_finite(weight))
        if not statistics.hold_squares:
            raise ValueError("statistics: expected finite second moments, got an overflow. The training has diverged.")
        self._statistics, self._weight = statistics, weight.detach().to(statistics.feature_mean)
        self._principal, self._rows = principal_directions(statistics), _row_space(self._weight)
        self._sums, self._count = torch.zeros(4, dtype=torch.float64, device=self._weight.device), 0

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Takes in a batch (n, P), any floating dtype.

        Raises:
            ValueError: another shape than that, or a value that is not finite.
        """
        check_features(features, self._statistics.num_features)
        if not len(features):
            return
        require_finite("features", all_finite(features))
        features, mean = features.detach().to(self._weight), self._statistics.feature_mean
        centered, lengths = features - mean, torch.linalg.vector_norm(features, dim=1)
        # An example closer to the mean than its own rounding has no direction.
        rounding = self._statistics.feature_eps * torch.maximum(lengths, torch.linalg.vector_norm(mean))
        for place, (vectors, least) in enumerate(((features, torch.zeros_like(lengths)), (centered, rounding))):
            squares = vectors.square().sum(1)
            squares = torch.where(squares > least.square(), squares, torch.nan)
            for offset, basis in ((0, self._principal), (2, self._rows)):
                beyond = vectors - (vectors @ basis) @ basis.T
                share = (beyond.square().sum(1) / squares).sum() if basis.shape[1] else squares.new_tensor(torch.nan)
                self._sums[place + offset] += share
        self._count += len(features)

    def merge(self, other: RegressionCollapseAccumulator) -> None:
        """Takes in all that another accumulator with the same statistics and weight has seen."""
        self._sums += other._sums.to(self._sums)
        self._count += other._count

    def compute(self) -> RegressionCollapse:
        """Every number, from the statistics and all features so far.

        Raises:
            ValueError: no features.
        """
        if not self._count:
            raise ValueError("features: expected at least one example, got none. Call update first.")
        nrc1, nrc1_centered, nrc2, nrc2_centered = (self._sums / self._count).tolist()
        return RegressionCollapse(
            nrc1=nrc1,
            nrc2=nrc2,
            nrc1_centered=nrc1_centered,
            nrc2_centered=nrc2_centered,
            **regression_geometry(self._statistics, self._weight),
        )

    def reduce(self, total: Callable[..., list[float]]) -> None:
        """Replace the sums of one process by those of all, as total(*numbers) adds them up; collective."""
        *sums, count = total(*self._sums.tolist(), float(self._count))
        self._sums, self._count = self._sums.new_tensor(sums), int(count)


def regression_geometry(statistics: TargetStatistics, weight: Tensor) -> dict[str, float]:
    """What of RegressionCollapse is a function of the statistics: ``nrc3``, ``gamma``, ``explained_variance``,
    ``rank_features`` and ``subspace_angle``.

    weight: W, (m, P), on the device of the statistics.
    """
    weight = weight.detach().to(statistics.feature_mean)
    rows, principal = _row_space(weight), principal_directions(statistics)
    value, gamma = nrc3(weight, statistics.target_covariance)
    angle = math.nan
    if rows.shape[1] and principal.shape[1]:
        # sin of the largest angle: exact where it is small, which the cosine is not.
        small, large = sorted((rows, principal), key=lambda basis: basis.shape[1])
        beyond = torch.linalg.matrix_norm(small - large @ (large.T @ small), ord=2)
        angle = math.degrees(math.asin(min(float(beyond), 1.0)))
    return {
        "nrc3": value,
        "gamma": gamma,
        "explained_variance": float(explained_variances(statistics)[: statistics.num_targets].sum()),
        "rank_features": float(_known_rank(statistics)),
        "subspace_angle": angle,
    }


def measure_regression_collapse(statistics: TargetStatistics, weight: Tensor, features: Tensor) -> RegressionCollapse:
    """NRC1 to NRC3 of features (n, P) that are at hand at once; see `RegressionCollapseAccumulator` for batches.

    Raises:
        ValueError: as `RegressionCollapseAccumulator`.
    """
    accumulator = RegressionCollapseAccumulator(statistics, weight)
    accumulator.update(features)
    return accumulator.compute()


def explained_variances(statistics: TargetStatistics) -> Tensor:
    """λ_j/Σλ of the feature covariance, descending, (P,): the explained variance ratio (ADGZR24, figure 3).

    nan where the features are constant.
    """
    variances = torch.linalg.eigvalsh(statistics.feature_covariance).flip(0)
    return variances / variances.sum() if _known_rank(statistics) else torch.full_like(variances, torch.nan)


def principal_directions(statistics: TargetStatistics) -> Tensor:
    """The first m principal directions of the features, orthonormal columns of (P, min(m, rank)).

    No more than the features have directions in which they vary by more than their rounding; none where constant.
    """
    count = min(statistics.num_targets, _known_rank(statistics))
    vectors = torch.linalg.eigh(statistics.feature_covariance).eigenvectors
    return vectors.flip(1)[:, :count]


def _known_rank(statistics: TargetStatistics) -> int:
    covariance = statistics.feature_covariance
    rounding = units_rounding(statistics.feature_eps, statistics.feature_mean, covariance.diagonal())
    return known_directions(covariance, rounding).rank


def _row_space(weight: Tensor) -> Tensor:
    """Orthonormal columns of (P, rank W)."""
    _, sizes, directions = torch.linalg.svd(weight, full_matrices=False)
    return directions[sizes > max(weight.shape) * ROUND_OFF * sizes[:1]].T


def nrc3(weight: Tensor, target_covariance: Tensor, gamma: float | None = None) -> tuple[float, float]:
    """NRC3 at the γ in [0, λ_min] that makes it least, and that γ; or at a given γ.

    With A = W Wᵀ/‖W Wᵀ‖_F and the eigenvectors u_j and eigenvalues σ_j² of Σ_Y, d_j = u_jᵀ A u_j and x = √γ,

        NRC3 = 2 − 2 f(x),    f(x) = Σ_j d_j (σ_j − x) / (Σ_j (σ_j − x)²)^{1/2}.

    f′ has the sign of a linear function of x: (a p − t q) − (a m − t p) x, with a = Σ d_j σ_j, t = Σ d_j, p = Σ σ_j,
    q = Σ σ_j². So the best x is its root, or an end of [0, σ_min]; no search and no grid. The value is taken from the
    difference of both matrices, not from 2 − 2f, which keeps no digit near 0.

    Args:
        weight: W, (m, P).
        target_covariance: Σ_Y, (m, m).
        gamma: γ >= 0; None for the best.

    Returns:
        (NRC3, γ); (nan, nan) where m = 1, W = 0 or Σ_Y = 0; the best γ is nan where Σ_Y is a multiple of I.

    Raises:
        ValueError: a γ that is negative or not finite.
    """
    if gamma is not None and not 0 <= gamma < math.inf:
        raise ValueError(f"gamma: expected a finite number >= 0, got {gamma}. Pass None for the best.")
    weight, covariance = weight.detach().to(torch.float64), target_covariance.to(torch.float64)
    gram = weight @ weight.T
    size, trace = torch.linalg.matrix_norm(gram), covariance.trace()
    if len(gram) == 1 or not bool(size > 0) or not bool(trace > 0):
        return math.nan, math.nan
    variances, vectors = torch.linalg.eigh(covariance)
    deviations = variances.clamp(min=0).sqrt()
    gram = vectors.T @ (gram / size) @ vectors
    shares, least = gram.diagonal(), deviations[0]
    if gamma is not None:
        return _square_distance(gram, deviations - gamma**0.5), gamma
    if bool(deviations[-1] - least <= len(gram) * ROUND_OFF * deviations[-1]):
        return _square_distance(gram, torch.ones_like(deviations)), math.nan
    a, t, p, q = shares @ deviations, shares.sum(), deviations.sum(), deviations.square().sum()
    root = (a * p - t * q) / (a * len(gram) - t * p)
    ends = [torch.zeros_like(least), least]
    inside = [root] if bool((root > 0) & (root < least)) else []
    values = [(_square_distance(gram, deviations - x), float(x) ** 2) for x in (*ends, *inside)]
    return min(values)


def _square_distance(gram: Tensor, diagonal: Tensor) -> float:
    """‖A − diag(d)/‖d‖‖_F²."""
    return float((gram - torch.diag(diagonal / torch.linalg.vector_norm(diagonal))).square().sum())


@dataclass(frozen=True, eq=False)
class FreeFeaturesMinimum:
    """A global minimum of the free-features model with vector targets; float64."""

    weight: Tensor
    """W, (m, P)."""
    bias: Tensor | None
    """b = ȳ, (m,), or None."""
    features: Tensor
    """h_i, rows of (n, P)."""
    loss: float
    """The least value of the objective."""
    scales: Tensor
    """ζ_j = (σ_j − √(λ_W λ_h))₊, of the min(m, n, P) largest σ_j, descending."""


def free_features_minimum(
    targets: Tensor, num_features: int, weight_ridge: float, feature_ridge: float, bias: bool = True
) -> FreeFeaturesMinimum:
    """The minimum over W, b and all features of the model in which every feature is free (ADGZR24, eq. 1, Thm. 4.1):

        ½ Ave ‖W h_i + b − y_i‖² + (λ_W/2) ‖W‖_F² + (λ_h/2) Ave ‖h_i‖².

    b = ȳ, and with the columns y_i − ȳ, (1/√n) Y = U diag(σ) Vᵀ. Since (λ_W/2) ‖W‖² + (λ_h/2n) ‖H‖² is at least
    √(λ_W λ_h/n) ‖W H‖_*, the product W H/√n is the soft threshold U diag(ζ) Vᵀ at √(λ_W λ_h), and

        W = (λ_h/λ_W)^{1/4} U diag(√ζ) Rᵀ,    H = √n (λ_W/λ_h)^{1/4} R diag(√ζ) Vᵀ,
        loss = ½ Σ_j (σ_j − ζ_j)² + √(λ_W λ_h) Σ_j ζ_j,

    for any R with orthonormal columns (here the first units). So W Wᵀ = (λ_h/λ_W)^{1/2} (Σ_Y^{1/2} − √(λ_W λ_h) I)₊:
    NRC3 is 0 with γ = λ_W λ_h as long as that is below λ_min, and NRC1 and NRC2 are 0 always. With fewer features
    than targets the P largest σ_j are kept. Without bias Σ_Y is the second moment about 0.

    Args:
        targets: y, (n, m), any floating dtype.
        num_features: P >= 1.
        weight_ridge: λ_W > 0; at 0 there is no minimum, only an infimum.
        feature_ridge: λ_h > 0.
        bias: False for a layer without one.

    Raises:
        ValueError: targets of another shape or not finite, P < 1, a ridge that is not positive and finite.
    """
    _check_free_features(targets, num_features, {"weight_ridge": weight_ridge, "feature_ridge": feature_ridge})
    targets = targets.detach().to(torch.float64)
    mean = targets.mean(0) if bias else torch.zeros_like(targets[0])
    left, sizes, right = torch.linalg.svd((targets - mean).T / len(targets) ** 0.5, full_matrices=False)
    threshold, kept = (weight_ridge * feature_ridge) ** 0.5, min(len(sizes), num_features)
    scales = (sizes[:kept] - threshold).clamp(min=0)
    balance = (feature_ridge / weight_ridge) ** 0.25
    weight, features = targets.new_zeros(len(mean), num_features), targets.new_zeros(len(targets), num_features)
    weight[:, :kept] = balance * left[:, :kept] * scales.sqrt()
    features[:, :kept] = len(targets) ** 0.5 / balance * right[:kept].T * scales.sqrt()
    left_over = torch.cat([sizes[:kept] - scales, sizes[kept:]]).square().sum() / 2
    return FreeFeaturesMinimum(
        weight, mean if bias else None, features, float(left_over + threshold * scales.sum()), scales
    )


def _check_free_features(targets: Tensor, num_features: int, ridges: dict[str, float]) -> None:
    check_free_targets(targets, num_features)
    for name, ridge in ridges.items():
        if not 0 < ridge < math.inf:
            raise ValueError(f"{name}: expected a finite number > 0, got {ridge}. At 0 no minimum is attained.")
