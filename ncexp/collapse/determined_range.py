"""The directions of feature space that the class statistics determine, and what is left of Σ_W and M̄ there.

Features come rounded to ε_f of their size (2⁻²³ for float32), and Σ_W is a sum of squares in float64. A linear map
w ↦ wᵀh on which all features agree to that (behind a linear bottleneck, along the mean that LayerNorm takes away,
between units that are copies) has rounding for its variance and for its class means, which is neither noise nor
signal: a layer fitted to it would read class labels out of last bits. Those w, and only those, are left out.

**The principle.** What is left out is no larger than its own rounding, as variance and as class means alike. A
class-mean component above its rounding is signal, however little varies along it; a variance above its rounding is
noise, whatever the class means do. Each unit is measured in its own rounding, never in its within-class deviation: in
collapse the deviation falls to the size of the rounding and says nothing of the class means, 1/ε_f times as long.

**Rounding of a unit.** With d = diag(Σ_W), R = d^{-1/2} Σ_W d^{-1/2} the correlation form, ε = 2⁻⁵²,

    r_i² = ε_f² (d_i + max_c μ_ci²)              a feature's own rounding, at the size that it has;
    δ² = P ε λ_max(R)                            the variance, in units of d_i, that sums in float64 make of 0;
    ρ_i² = κ r_i² + 100 δ² d_i.

κ = P, where rounding may be common to all units, as when it happens on the way (Cauchy-Schwarz: Σ_i |w_i| r_i <=
√P ‖w∘r‖); κ = 1 for half precision, which is rounded at the end of a float32 computation, each unit for itself. 100 δ²:
from there on a variance is known to 1 %, and a class mean is ten times the deviation that sums could hide.

**What is left out.** z = h/ρ (unit by unit) has rounding 1 in every direction. Of the singular vectors v of
[f·Σ_z^{1/2}; M̄_z], both about z, those with a singular value of at most f span V: variance at most 1, class means at
most f = max(1, ε max(C, P) ‖M̄_z‖_F), the second being what the decomposition itself leaves. Their variances together
are at most Σ_i (r_i² + 100 δ² d_i)/ρ_i², the most that rounding leaves in all; those beyond that sum stay. Deciding on
both together matters in deep collapse: rounding turns the eigenvectors of Σ_z alone, and the class means are long. The
layers that remain are those with W ρ V = 0, and h counts as h − ρ V Vᵀ(h − μ_G)/ρ.

**The bound.** For any layer W, take away its part on V: W' = W − (W ρ V) Vᵀ ρ⁻¹. Its logits differ from those of W, up
to a constant that the bias takes, by (W ρ V) Vᵀ(h − μ_G)/ρ, of root mean square q <= f ‖W ρ V‖_F <= f ‖W ρ‖_F, since
‖[f·Σ_z^{1/2}; M̄_z] v‖ <= f on V (without a bias the constant counts where it is rounding as well: g of ρ V, and
(f² + g²)^{1/2} for f). As L = ½ Ave ‖·‖² and W' is one of the layers that remain,

    √L_LS <= √L(W') <= √L(W) + q/√2    for every W:

L_LS exceeds L by no more than L changes where each feature moves by ρ, its rounding. `freedom` is the bound on q.

Accuracy. A variance is taken from R, whose entries are known to ε of themselves however different the units are. Means
and variances are kept in the coordinates x = h d^{-1/2}, on Q, an orthonormal basis of the w that remain: the
orthogonal complement of ρ d^{-1/2} V, since W ρ V = 0. A unit that is constant within classes to the rounding of sums,
n ε of its largest class mean, has variance 0, and its largest centred class mean for its scale. A unit is dead, and
left out first, where d_i^{1/2} and its centred class means are both at most max(n ε, ε_f) times its largest class mean;
where only d_i^{1/2} is, it separates classes without noise.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.linear_algebra import ROUND_OFF


@dataclass(frozen=True, eq=False)
class DeterminedRange:
    """U units, k directions of theirs; coordinates are those of features with unit within-class variance."""

    units: Tensor
    """Which of the P units have a say, (P,) bool: all but the dead ones whose class means agree."""
    num_separating: int
    """Units without within-class variation whose class means differ."""
    num_still: int
    """Units constant within classes to the rounding of sums in float64: Σ_W says nothing of them, not even a scale."""
    scales: Tensor
    """Within-class deviation of each unit, of one without any its largest centred class mean, (U,)."""
    directions: Tensor
    """Q: the coordinates that remain are Qᵀ(h/scales); orthonormal, columns of (U, k)."""
    variances: Tensor
    """Variance along each, ascending, (k,), at least 0."""
    means: Tensor
    """Centred class means along each, (C, k)."""
    rank: int
    """In how many of the k directions the variance is more than rounding."""
    within_rank: int
    """Rank of Σ_W itself, whatever the class means: directions whose variance is more than rounding."""
    root: Tensor
    """Rows with rootᵀ root = Σ_W of the units, nothing left out, (U, U)."""
    left_out: Tensor
    """V, orthonormal columns of (U, l)."""
    rounding: Tensor
    """ρ of each unit, of a dead one max(n ε, ε_f) of its largest class mean; (P,)."""
    means_factor: float
    """f: the most that M̄/ρ has along V."""
    mean_factor: float
    """g: the most that μ_G/ρ has along V where that is rounding; f, with μ_G for the class means."""

    @property
    def complete(self) -> bool:
        """Whether nothing was projected out."""
        return bool(self.units.all()) and self.directions.shape[0] == self.directions.shape[1]

    def freedom(self, weight: Tensor) -> Tensor:
        """A bound on the root mean square of the logits that a layer has on what is left out.

        Dead units may have their rounding in common: variance and class means of each are at most its rounding.
        """
        dead = torch.linalg.vector_norm(weight[:, ~self.units], dim=0) @ self.rounding[~self.units]
        along = (weight * self.rounding)[:, self.units] @ self.left_out
        return math.hypot(self.means_factor, self.mean_factor) * torch.linalg.matrix_norm(along) + 2**0.5 * dead

    def class_means(self, statistics: ClassStatistics) -> Tensor:
        """μ_c with what is left out of μ_c − μ_G taken away, (C, P).

        What μ_G has there serves a layer as a constant and stays, unless it is rounding.
        """
        if self.complete:
            return statistics.class_means
        mean = statistics.global_mean
        rest, beyond = self._without(mean[None, self.units])
        if float(torch.linalg.vector_norm(beyond)) <= self.mean_factor:
            mean[self.units] = rest[0]
        cleaned = mean.repeat(statistics.num_classes, 1)
        cleaned[:, self.units] += self._without(statistics.centered_class_means[:, self.units])[0]
        return cleaned

    def covariance_factor(self) -> Tensor:
        """Rows F (U, P) with FᵀF = Σ_W less what is left out."""
        factor = self.root.new_zeros(len(self.root), len(self.units))
        factor[:, self.units] = self._without(self.root)[0]
        return factor

    def _without(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """h − ρ V Vᵀ(h/ρ) for rows h of the units, and Vᵀ(h/ρ)."""
        rounding = self.rounding[self.units]
        along = (rows / rounding) @ self.left_out
        return rows - (along @ self.left_out.T) * rounding, along


# One evaluation asks for it several times: for the spectrum, and for every problem at λ = 0.
@functools.lru_cache(maxsize=2)
def determined_range(statistics: ClassStatistics) -> DeterminedRange:
    """The range of finite statistics; a P×P eigenvalue problem, and where something is projected out a few more."""
    means, covariance = statistics.centered_class_means, statistics.within_class_covariance
    largest = statistics.class_means.abs().amax(0)
    rounding = max(statistics.num_examples * ROUND_OFF, statistics.feature_eps) * largest
    deviations, extents = covariance.diagonal().sqrt(), means.abs().amax(0)
    separating = (deviations <= rounding) & (extents > rounding)
    units = (deviations > rounding) | separating
    still = (deviations <= statistics.num_examples * ROUND_OFF * largest)[units]
    scales = torch.where(still, extents[units], deviations[units])
    scaled = covariance[units][:, units] / scales / scales[:, None]
    scaled[still], scaled[:, still] = 0, 0
    variances, directions = _spectrum(scaled, still)
    root = variances.clamp(min=0).sqrt()[:, None] * directions.T * scales
    # r² + 100 δ² d and ρ² in units of the squared scales.
    of_sums = len(scales) * ROUND_OFF * float(variances[-1]) if len(scales) else 0.0
    own = feature_rounding(statistics)[units].square() / scales.square()
    hidden = 100 * of_sums * scaled.diagonal()
    shared = len(scales) if statistics.feature_eps <= torch.finfo(torch.float32).eps else 1
    relative = (shared * own + hidden).sqrt()
    rounding[units] = relative * scales
    scaled_means, left_out, means_factor, within_rank = means[:, units] / scales, root[:, :0], 1.0, len(scales)
    if len(scales) and not float(variances[0]) > float(relative.square().max()):
        most = float(((own + hidden) / relative.square()).sum())
        in_rounding = scaled / relative / relative[:, None]
        left_out, means_factor, within_rank = _left_out(in_rounding, scaled_means / relative, most)
        if left_out.shape[1]:
            basis = torch.linalg.qr(relative[:, None] * left_out, mode="complete").Q[:, left_out.shape[1] :]
            turned = directions.T @ basis
            variances, rotation = torch.linalg.eigh((turned.T * variances) @ turned)
            directions = basis @ rotation
    mean_size = float(torch.linalg.vector_norm(statistics.global_mean[units] / rounding[units]))
    return DeterminedRange(
        units=units,
        num_separating=int(separating.sum()),
        num_still=int(still.sum()),
        scales=scales,
        directions=directions,
        variances=variances.clamp(min=0),
        means=scaled_means @ directions,
        rank=_above(variances, directions, own + hidden),
        within_rank=within_rank,
        root=root,
        left_out=left_out,
        rounding=rounding,
        means_factor=means_factor,
        mean_factor=max(1.0, ROUND_OFF * len(scales) * mean_size),
    )


def feature_rounding(statistics: ClassStatistics) -> Tensor:
    """r: what a feature's own precision leaves unsaid, ε_f of its size in the class where that is largest, (P,)."""
    moments = statistics.within_class_covariance.diagonal() + statistics.class_means.square().amax(0)
    return statistics.feature_eps * moments.sqrt()


def means_rounding(statistics: ClassStatistics) -> Tensor:
    """What the rounding of features leaves unsaid of each unit's class means, (P,).

    r, at ε_f or what sums in float64 leave, max(C, P) ε. Half-precision features are rounded each for itself: where
    they spread over more than their rounding, in the class with the least spread too, it averages out as 1/√n_c.
    """
    rounding = feature_rounding(statistics)
    if statistics.feature_eps > torch.finfo(torch.float32).eps:
        covariance, of_classes = statistics.within_class_covariance, statistics.within_class_variances
        dithered = covariance.diagonal() * of_classes.min() > rounding.square() * covariance.trace()
        return torch.where(dithered, rounding / int(statistics.counts.min()) ** 0.5, rounding)
    of_sums = max(statistics.class_means.shape) * ROUND_OFF / statistics.feature_eps
    return max(1.0, of_sums) * rounding


def _left_out(covariance: Tensor, means: Tensor, most: float) -> tuple[Tensor, float, int]:
    """Of units of rounding 1: V (U, l), f, and how many variances are above 1.

    The least singular vectors of [f·root; means], as far as the singular values are at most f and the variances along
    them sum to `most`.
    """
    variances, directions = torch.linalg.eigh(covariance)
    root = variances.clamp(min=0).sqrt()[:, None] * directions.T
    factor = max(1.0, ROUND_OFF * max(means.shape) * float(torch.linalg.matrix_norm(means)))
    if len(means) > means.shape[1]:
        means = torch.linalg.qr(means, mode="r").R
    _, sizes, basis = torch.linalg.svd(torch.cat([factor * root, means]), full_matrices=False)
    small = basis[sizes <= factor].flip(0)
    count = int(((small @ root.T).square().sum(1).cumsum(0) <= most).sum())
    return small[:count].T, factor, int((variances > 1).sum())


def _spectrum(covariance: Tensor, still: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors where the still units have rows of zeros.

    Of the other units alone: an eigenvalue that is 0 but for rounding, ε λ_max, would have eigenvectors with a share of
    still units, whose scale is that of class means: √ε of them is no small deviation.
    """
    inner, rotation = torch.linalg.eigh(covariance[~still][:, ~still])
    num_still = len(covariance) - len(inner)
    variances, directions = torch.nn.functional.pad(inner, (num_still, 0)), torch.zeros_like(covariance)
    directions[still, :num_still] = torch.eye(num_still, dtype=inner.dtype, device=inner.device)
    directions[~still, num_still:] = rotation
    order = variances.argsort()
    return variances[order], directions[:, order]


def _above(variances: Tensor, directions: Tensor, noise: Tensor) -> int:
    """How many directions have a variance above that of independent noise of the units (Sylvester's law of inertia)."""
    if len(variances) == 0 or float(variances[0]) > float(noise.max()):
        return len(variances)
    difference = torch.diag(variances) - (directions.T * noise) @ directions
    return int((torch.linalg.eigvalsh(difference) > 0).sum())
