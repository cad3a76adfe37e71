"""The SNR spectrum ω_1 ≥ … ≥ ω_{C−1}: the singular values of the SNR matrix Σ_W^{-1/2} M̄ (HPD22 section 3).

How it is computed. ω depends on the pair (Σ_W, M̄) only up to an invertible map of the features, so the features are
first scaled to unit within-class variance: with d = diag(Σ_W), R = d^{-1/2} Σ_W d^{-1/2} (a correlation matrix) and
B = d^{-1/2} M̄ have the same ω. Scaling matters: units of a ReLU network differ in variance by many orders, and on Σ_W
itself any rank cut-off would delete the quiet ones. With R = Q Λ Qᵀ on the eigenvalues that are not rounding noise,
ω are the singular values of Λ^{-1/2} Qᵀ B. No eps is ever added.

How the rank is decided, in float64 with unit round-off ε:
- a unit is dead when its within-class standard deviation is below n·ε times its largest class mean, the worst that
  summing n equal numbers can leave behind (exact zeros of dead ReLUs are below any bound);
- an eigenvalue of R is noise when it is at most P·ε·λ_max (rounding of sums leaves about ε·λ_max there), or at most
  Σ_i (ε max_c |μ_ci|)²/d_i, what features leave that are themselves rounded to ε of their size: this one matters in
  deep collapse, from a spread of about 1e-8 of the means on.
With fewer examples than features, n − C < P, or with copied units, that finds the true rank.

On what is left the spectrum is that of the pseudo-inverse, provided M̄ lies there: no dead unit may tell classes apart,
and the part of B on the discarded eigenvectors must be rounding. Otherwise some ω is infinite, and the answer is
"undefined", with the reason.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import ClassStatistics

_ROUND_OFF = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class SNRSpectrum:
    """The SNR spectrum with what it rests on; never an error, so that a run can record it."""

    singular_values: Tensor
    """(min(C−1, P),) float64, descending; all nan where undefined."""
    rank: int
    """Rank of Σ_W that was used; P where every unit is live and independent."""
    condition_number: float
    """λ_max/λ_min of the correlation form of Σ_W on that rank: ω has a relative error of about 1e-16 times this."""
    undefined: str
    """Why there is no spectrum; empty where there is one."""

    @property
    def defined(self) -> bool:
        """Whether M̄ lies in the range of Σ_W, so that every ω is finite."""
        return not self.undefined


def snr_singular_values(statistics: ClassStatistics) -> Tensor:
    """Singular values ω of the SNR matrix Σ_W^{-1/2} M̄, descending (HPD22 section 3).

    M̄ has the columns μ_c − μ_G, each with weight one. Only for balanced classes is ω_j² also C times a generalised
    eigenvalue of (Σ_B, Σ_W); with unequal classes the definition stands, but the central-path formulas do not hold.
    Where Σ_W is rank deficient and M̄ lies in its range, the singular values are those on the range.

    Args:
        statistics: class statistics of n features of width P in C classes.

    Returns:
        (min(C−1, P),) float64.

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
    """The SNR spectrum, the rank of Σ_W it uses, and the reason where it is undefined (HPD22 section 3).

    Args:
        statistics: class statistics of n features of width P in C classes.

    Returns:
        SNRSpectrum with `singular_values` (min(C−1, P),) float64 on the statistics' device.
    """
    means = statistics.centered_class_means
    num_values = min(means.shape[0] - 1, means.shape[1])
    if not bool(statistics.within_class_covariance.isfinite().all()):
        return _undefined(means, num_values, 0, "features too large to be squared")
    mean_rounding = statistics.num_examples * _ROUND_OFF * statistics.class_means.abs().amax(dim=0)
    deviation = statistics.within_class_covariance.diagonal().sqrt()
    live = deviation > mean_rounding

    if not live.any():
        return _undefined(means, num_values, 0, "no within-class variation in any unit")

    scale = deviation[live]
    correlation = statistics.within_class_covariance[live][:, live] / scale / scale[:, None]
    scaled_means = means[:, live] / scale
    eigenvalues, eigenvectors = torch.linalg.eigh(correlation)
    of_sums = len(eigenvalues) * _ROUND_OFF * eigenvalues[-1]
    of_features = (_ROUND_OFF * statistics.class_means[:, live].abs().amax(dim=0) / scale).square().sum()
    rank = int((eigenvalues > torch.maximum(of_sums, of_features)).sum())
    assert rank > 0, "n examples give λ_max >= P/n, and live units give noise below P/n²"
    coordinates = scaled_means @ eigenvectors
    discarded, kept = coordinates[:, :-rank], coordinates[:, -rank:]

    separating = ~live & (means.abs().amax(dim=0) > mean_rounding)
    if separating.any():
        reason = f"{int(separating.sum())} units without within-class variation whose class means differ"
        return _undefined(means, num_values, rank, reason)
    # How far rounding may turn the discarded eigenvectors: that of Σ_W in proportion, that of features by its root.
    rotation = of_sums / eigenvalues[-rank] + (of_features / eigenvalues[-rank]).sqrt()
    allowed = rotation * torch.linalg.norm(scaled_means) + torch.linalg.norm(mean_rounding[live] / scale)
    if torch.linalg.norm(discarded) > allowed:
        reason = f"class means outside the range of a within-class covariance of rank {rank} in {means.shape[1]} units"
        return _undefined(means, num_values, rank, reason)

    values = torch.zeros(num_values, dtype=torch.float64, device=means.device)
    measured = torch.linalg.svdvals(kept / eigenvalues[-rank:].sqrt())[:num_values]
    values[: len(measured)] = measured
    return SNRSpectrum(values, rank, float(eigenvalues[-1] / eigenvalues[-rank]), "")


def _undefined(means: Tensor, num_values: int, rank: int, reason: str) -> SNRSpectrum:
    return SNRSpectrum(means.new_full((num_values,), torch.nan), rank, torch.nan, reason)
