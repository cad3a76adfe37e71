"""The SNR spectrum ω_1 ≥ … ≥ ω_{C−1}: the singular values of the SNR matrix Σ_W^{-1/2} M̄ (HPD22 section 3).

How it is computed. ω depends on the pair (Σ_W, M̄) only up to an invertible map of the features, so the features are
first scaled to unit within-class variance, R = d^{-1/2} Σ_W d^{-1/2} and B = d^{-1/2} M̄ with d = diag(Σ_W), and
restricted to the directions that their precision determines (determined_range.py). With R = Q Λ Qᵀ there, ω are the
singular values of Λ^{-1/2} Qᵀ B. No eps is ever added. Where nothing is left out, they are those of L⁻¹ M̄, Σ_W = L Lᵀ
in an order of the units that keeps every ω where these have collapsed to unlike depths (`ordered_cholesky`).

With a linear bottleneck, LayerNorm, fewer examples than features (n − C < P) or copied units that finds the true rank.
The spectrum is that of the pseudo-inverse, provided M̄ lies in the range of Σ_W: no dead unit may distinguish classes,
and no direction of the class means may be without variance. Otherwise some ω is infinite, and the result is
"undefined", with the reason.

How many digits hold. The relative error of ω is at most about P ε λ_max(R)/λ_min(R), ε = 2⁻⁵², for the features as they
are given: 1e-12 for a condition number of 1e2 at P = 64, 1e-2 for 1e12. `SNRSpectrum.rounding` is that number.
Where directions are left out it is at least P ε ω_1/ω_last.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.determined_range import DeterminedRange, determined_range, means_rounding
from ncexp.collapse.linear_algebra import (
    EVERY_DIGIT,
    ROUND_OFF,
    graded_svd,
    ordered_cholesky,
    without_null_direction,
)


@dataclass(frozen=True)
class SNRSpectrum:
    """The SNR spectrum with what it rests on; never an error, so that a run can record it."""

    singular_values: Tensor
    """(min(C−1, P),) float64, descending; all nan where undefined."""
    rank: int
    """Rank of Σ_W that was used; P where every unit is live and independent."""
    condition_number: float
    """λ_max/λ_min of the correlation form of Σ_W on that rank."""
    undefined: str
    """Why there is no spectrum; empty where there is one."""
    rounding: float = math.nan
    """rank · 2⁻⁵² · condition_number: a bound in practice on the relative error that float64 leaves in any ω."""
    means_rank: int = 0
    """How many ω are more than what the rounding of the class means makes of 0."""

    @property
    def defined(self) -> bool:
        """Whether M̄ lies in the range of Σ_W, so that every ω is finite."""
        return not self.undefined


def snr_singular_values(statistics: ClassStatistics) -> Tensor:
    """Singular values ω of the SNR matrix Σ_W^{-1/2} M̄, (min(C−1, P),) float64, descending (HPD22 section 3).

    M̄ has the columns μ_c − μ_G, each with weight one. Only for balanced classes is ω_j² also C times a generalised
    eigenvalue of (Σ_B, Σ_W); with unequal classes the definition stands, but the central-path formulas do not hold.
    Where Σ_W is rank deficient and M̄ lies in its range, the singular values are those on the range.

    Raises:
        ValueError: M̄ does not lie in the range of Σ_W (see `snr_spectrum` for a form that records this instead).
    """
    spectrum = snr_spectrum(statistics)
    if not spectrum.defined:
        raise ValueError(
            "statistics: expected centred class means within the range of the within-class covariance, "
            f"got {spectrum.undefined}. Measure more examples, or use snr_spectrum to record it as undefined."
        )
    return spectrum.singular_values


def snr_spectrum(statistics: ClassStatistics) -> SNRSpectrum:
    """The SNR spectrum, the rank of Σ_W it uses, and the reason where it is undefined (HPD22 section 3)."""
    num_values = min(statistics.num_classes - 1, statistics.num_features)

    def undefined(rank: int, reason: str) -> SNRSpectrum:
        return SNRSpectrum(statistics.class_means.new_full((num_values,), torch.nan), rank, torch.nan, reason)

    if not statistics.hold_squares:
        size = "small" if bool(statistics.class_means.square().sum() < 1) else "large"
        return undefined(0, f"features too {size} to be squared")
    known = determined_range(statistics)
    if int(known.units.sum()) == known.num_separating or not len(known.variances):
        return undefined(0, "no within-class variation in any unit")
    rank = known.rank
    if known.num_separating:
        return undefined(rank, f"{known.num_separating} units without within-class variation whose class means differ")
    if rank < len(known.variances):
        place = f"rank {rank} in {statistics.num_features} units"
        return undefined(rank, f"class means outside the range of a within-class covariance of {place}")
    values = known.means.new_zeros(num_values)
    condition = float(known.variances[-1] / known.variances[0])
    means, frequencies = statistics.centered_class_means, statistics.frequencies
    factor = ordered_cholesky(statistics.within_class_covariance, means.square().sum(0)) if known.complete else None
    if factor is not None:
        order, triangle = factor
        rows = without_null_direction(means[:, order], frequencies / torch.linalg.vector_norm(frequencies))
        measured = graded_svd(torch.linalg.solve_triangular(triangle, rows.T, upper=False).T, EVERY_DIGIT)[1]
        rounding = rank * ROUND_OFF * condition
    else:
        measured = torch.linalg.svdvals(known.means / known.variances.sqrt())[:num_values]
        rounding = rank * ROUND_OFF * max(condition, float(measured[0] / measured[-1]))
    values[: len(measured)] = measured
    return SNRSpectrum(values, rank, condition, "", rounding, _above_rounding(statistics, known, measured))


def _above_rounding(statistics: ClassStatistics, known: DeterminedRange, values: Tensor) -> int:
    """How many ω_j = ‖M̄ᵀ w_j‖, wᵀ Σ_W w = 1, exceed the rounding of class means along w_j.

    That is (Σ_i w_i² ρ_i²)^½ for one class (`means_rounding`), and √(C + k) times it for the largest singular value of
    C of them on k directions, entries independent.
    """
    most = float(sum(known.means.shape)) ** 0.5
    along = known.directions * (means_rounding(statistics)[known.units] / known.scales)[:, None]
    noise = along / known.variances.sqrt()
    if len(values) == 0 or float(values[-1]) > most * float(torch.linalg.matrix_norm(noise)):
        return len(values)
    _, sizes, turns = torch.linalg.svd(known.means / known.variances.sqrt(), full_matrices=False)
    roundings = torch.linalg.vector_norm(noise @ turns.T, dim=0)
    return int((sizes > most * roundings)[: len(values)].sum())
