"""The directions of feature space that the class statistics determine, and what is left of Σ_W and M̄ there.

Features come rounded to ε_f of their size (2⁻²³ for float32), and Σ_W is a sum of squares in float64. In a direction in
which all features agree to that (a linear bottleneck, the mean that LayerNorm takes away, units that are copies), Σ_W
and the class means hold rounding, which is neither noise nor signal: a layer fitted to it would read class labels out
of last bits. Those directions, and only those, are projected out.

How they are found. Features are first scaled to unit within-class variance: with d = diag(Σ_W),
R = d^{-1/2} Σ_W d^{-1/2} is a correlation matrix and B = d^{-1/2} M̄ the class means beside it. Units of a ReLU network
differ in variance by many orders, and on Σ_W itself any cut-off would delete the quiet ones. There, with ε = 2⁻⁵²,

    δ_s² = P ε λ_max(R)                        is what sums in float64 leave of a variance that is 0,
    δ_f² = ε_f² Ave_i (1 + max_c μ_ci²/d_i)    what features leave that are rounded each for itself; and P δ_f² where
                                               the rounding may be common to all units, as when it happens on the way.

Half-precision features are rounded at the end of a float32 computation, each for itself; others may share. So a
variance is rounding up to τ = max(δ_s², κ δ_f²), κ = 1 or P, and a component of the class means up to

    t = max(10 δ_s, √κ δ_f, ε max(C, P) ‖B‖_F),

ten times the deviation that the sums could hide, the rounding of the features, and that of the decomposition below. A
direction with both is a singular vector of [(t/√τ) R^{1/2}; Bᵀ] of singular value at most t. Deciding on the two
together matters in deep collapse: rounding turns the eigenvectors of R alone, and the class means are long. All such
directions together have no more variance than P max(δ_s², δ_f²), the most that rounding leaves in all; those beyond
that sum stay.

A unit is dead where its within-class deviation is at most max(n ε, ε_f) times its largest class mean: n ε is the worst
that summing n equal numbers can leave behind. It is projected out, unless its class means differ by more than that.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import ClassStatistics

ROUND_OFF = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class DeterminedRange:
    """U units, k directions of theirs; coordinates are those of features with unit within-class variance."""

    units: Tensor
    """Which of the P units have a say, (P,) bool: all but the dead ones whose class means agree."""
    num_separating: int
    """Units without within-class variation whose class means differ."""
    scales: Tensor
    """Within-class deviation of each unit, of a separating one its largest centred class mean, (U,)."""
    directions: Tensor
    """Orthonormal eigenvectors of R within the range, columns of (U, k)."""
    variances: Tensor
    """Variance along each, ascending, (k,), at least 0."""
    means: Tensor
    """Centred class means along each, (C, k)."""
    within_rank: int
    """Rank of Σ_W itself, whatever the class means: eigenvalues of R above δ_s²."""
    variance_rounding: float
    """max(δ_s², δ_f²): a variance that is left, and no larger, belongs to class means that are more than rounding."""
    mean_rounding: float
    """t."""

    @property
    def complete(self) -> bool:
        """Whether nothing was projected out."""
        return bool(self.units.all()) and self.directions.shape[0] == self.directions.shape[1]

    @property
    def rank(self) -> int:
        """How many variances are more than rounding."""
        return int((self.variances > self.variance_rounding).sum())

    def class_means(self, statistics: ClassStatistics) -> Tensor:
        """μ_c with what was projected out of μ_c − μ_G taken away, (C, P)."""
        if self.complete:
            return statistics.class_means
        cleaned = self._global_mean(statistics).repeat(statistics.num_classes, 1)
        cleaned[:, self.units] += (self.means @ self.directions.T) * self.scales
        return cleaned

    def _global_mean(self, statistics: ClassStatistics) -> Tensor:
        """μ_G. What it has outside of the range serves a layer as a constant, unless it is rounding."""
        mean = statistics.global_mean
        scaled = mean[self.units] / self.scales
        beyond = scaled - self.directions @ (self.directions.T @ scaled)
        rounding = max(self.mean_rounding, ROUND_OFF * len(scaled) * float(torch.linalg.vector_norm(scaled)))
        if float(torch.linalg.vector_norm(beyond)) <= rounding:
            mean[self.units] = (scaled - beyond) * self.scales
        return mean

    def covariance_factor(self) -> Tensor:
        """Rows R (k, P) with RᵀR = Σ_W within the range."""
        factor = self.directions.new_zeros(len(self.variances), len(self.units))
        factor[:, self.units] = self.variances.sqrt()[:, None] * self.directions.T * self.scales
        return factor


# One evaluation asks for it several times: for the spectrum, and for every problem at λ = 0.
@functools.lru_cache(maxsize=2)
def determined_range(statistics: ClassStatistics) -> DeterminedRange:
    """The range of finite statistics; a P×P eigenvalue problem, and where something is projected out one more."""
    means, covariance = statistics.centered_class_means, statistics.within_class_covariance
    largest = statistics.class_means.abs().amax(0)
    rounding = max(statistics.num_examples * ROUND_OFF, statistics.feature_eps) * largest
    deviations, extents = covariance.diagonal().sqrt(), means.abs().amax(0)
    live = deviations > rounding
    separating = ~live & (extents > rounding)
    units = live | separating
    scales = torch.where(live, deviations, extents)[units]
    scaled_means = means[:, units] / scales
    # 1 + max_c μ_ci²/d_i, of live units: the square of a feature's size in its within-class deviations.
    sizes = 1 + (largest[live] / deviations[live]).square()
    of_features = statistics.feature_eps**2 * float(sizes.mean()) if len(sizes) else 0.0
    shared = of_features * (len(scales) if statistics.feature_eps <= torch.finfo(torch.float32).eps else 1)
    variances, directions = torch.linalg.eigh(covariance[units][:, units] / scales / scales[:, None])
    of_sums = len(scales) * ROUND_OFF * float(variances[-1]) if len(scales) else 0.0
    within_rank = int((variances > of_sums).sum())
    of_svd = ROUND_OFF * max(scaled_means.shape) * float(torch.linalg.matrix_norm(scaled_means))
    mean_rounding = max(10 * of_sums**0.5, shared**0.5, of_svd)
    lost = max(of_sums, shared)
    if bool((variances <= lost).any()):
        root = variances.clamp(min=0).sqrt()[:, None] * directions.T
        weight = mean_rounding / lost**0.5 if lost > 0 else 1.0
        most = len(scales) * max(of_sums, of_features)
        variances, directions = _within(variances, directions, _kept(root, scaled_means, weight, mean_rounding, most))
    return DeterminedRange(
        units=units,
        num_separating=int(separating.sum()),
        scales=scales,
        directions=directions,
        variances=variances.clamp(min=0),
        means=scaled_means @ directions,
        within_rank=within_rank,
        variance_rounding=max(of_sums, of_features),
        mean_rounding=mean_rounding,
    )


def _kept(root: Tensor, means: Tensor, weight: float, floor: float, most: float) -> Tensor:
    """Orthonormal columns (U, k): the singular vectors of [weight·root; means] but for the least ones.

    Those go as far as the singular values are at most the floor and the squares of `root` along them sum to `most`.
    """
    if len(means) > means.shape[1]:
        means = torch.linalg.qr(means, mode="r").R
    _, sizes, basis = torch.linalg.svd(torch.cat([weight * root, means]), full_matrices=False)
    small = basis[sizes <= floor].flip(0)
    lost = int(((small @ root.T).square().sum(1).cumsum(0) <= most).sum())
    return basis[: len(basis) - lost].T


def _within(variances: Tensor, directions: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of R = Q diag(variances) Qᵀ within the span of orthonormal columns."""
    if basis.shape[0] == basis.shape[1]:
        return variances, directions
    turned = directions.T @ basis
    inner, rotation = torch.linalg.eigh((turned.T * variances) @ turned)
    return inner, basis @ rotation
