"""Neural collapse, measured: NC1 to NC4 and related measures, from the class statistics and the classifier.

Sources, by the names used below: PHD20 is Papyan, Han & Donoho, PNAS 2020; HPD22 is Han, Papyan & Donoho, ICLR 2022.
Symbols: μ_c class means, w_c rows of W, π_c class frequencies. Two centres, one where classes are of equal size:
μ_G = Σ_c π_c μ_c, the mean of examples, in Σ_B and so in NC1; (1/C) Σ_c μ_c, the mean of class means, in all that
concerns the frame that they form: m_c = μ_c − (1/C) Σ_c' μ_c', columns of M. About μ_G the corners of a simplex would
not be equally long, and NC2 and NC3 not 0 at collapse.
A metric that these statistics do not define is nan, never a number that rests on a hidden cut-off; its field says when.
There, a class mean m_c is 0, two coincide, or they span a direction less, where that is so to the rounding of class
means at the precision of the features (`means_rounding` in determined_range.py).
Features beyond about 1e150 or class means within 1e-146 of each other, whose squares float64 does not hold, leave what
rests on their squares nan as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.checks import check_layer
from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.determined_range import determined_range, means_rounding
from ncexp.collapse.linear_algebra import ROUND_OFF, effective_rank, without_null_direction
from ncexp.collapse.linear_classifier import LinearClassifier
from ncexp.collapse.many_pairs import pair_sums, uniformity
from ncexp.collapse.pairwise import PairBlock, RunningMoments, pair_blocks, row_norms, unit_rows
from ncexp.collapse.snr_spectrum import SNRSpectrum, snr_spectrum


@dataclass(frozen=True, kw_only=True)
class CollapseMetrics:
    """Numbers in float64; 0 at collapse where nothing else is said. The names are those of records and figures."""

    nc1_trace: float
    """tr(Σ_W Σ_B^†)/C, Σ_B^† on rank min(C − 1, P) exactly (PHD20). nan where `rank_means` is less than that."""
    nc1_trace_on_range: float
    """The same on the `rank_means` directions that the class means do span: `nc1_trace` where that is defined. nan
    where they span none."""
    nc1_ratio: float
    """tr Σ_W / tr Σ_B. nan where all class means coincide."""
    nc1_snr: float
    """Σ_j ω_j⁻², ω_j the singular values of Σ_W^{-1/2} M̄ (about μ_G) on the range of Σ_W (HPD22); the same under any
    invertible h → Ah + a. nan where M̄ leaves that range, and where the class means span less than they could in it."""
    cdnv: float
    """Ave_{c≠c'} (v_c + v_c')/(2‖μ_c − μ_c'‖²), v_c the within-class variances (Galanti, György & Hutter 2021). nan
    where two class means coincide."""
    equinorm_means: float
    """std_c ‖m_c‖ / Ave_c ‖m_c‖, std with 1/(C − 1) (PHD20, NC2). nan where all m_c are 0."""
    equinorm_classifier: float
    """The same of ‖w_c‖. nan where W is 0."""
    nc0_classifier: float
    """‖Σ_c w_c‖ / ‖W‖_F (NC0; Zhao et al. 2026 follow the sum itself), from 0 to √C, about 1 for independent rows: the
    rows of a simplex sum to 0. It has no scale: a W that only shrinks is not taken for collapse. nan where W is 0."""
    equiangularity_means: float
    """std of cos(m_c, m_c') over ordered pairs c ≠ c', population form (PHD20, NC2). nan where an m_c is 0."""
    equiangularity_classifier: float
    """The same of cos(w_c, w_c'). nan where a w_c is 0."""
    maximal_angle_means: float
    """Ave_{c≠c'} |cos(m_c, m_c') + 1/(C − 1)| (PHD20, NC2). nan where an m_c is 0."""
    maximal_angle_classifier: float
    """The same of cos(w_c, w_c'). nan where a w_c is 0."""
    etf_error_means: float
    """‖G/‖G‖_F − (I − 11ᵀ/C)/√(C − 1)‖_F with G = MᵀM (NC2). nan where M is 0."""
    etf_error_classifier: float
    """The same with G = W Wᵀ. nan where W is 0."""
    self_duality: float
    """‖Wᵀ/‖W‖_F − M/‖M‖_F‖_F² (PHD20, NC3), from 0 to 4. nan where W or M is 0."""
    self_duality_product: float
    """The ETF error of G = W M (Zhu et al. 2021, NC3). nan where W M is 0."""
    self_duality_angle: float
    """Ave_c (1 − cos(w_c, m_c)) (NC3), from 0 to 2. nan where a w_c or m_c is 0."""
    uniformity_means: float
    """Mean over pairs c ≠ c' of log ‖u_c − u_c'‖⁻¹, u_c = m_c/‖m_c‖ (GNC2; for C − 1 > P). At collapse with C − 1 <= P
    it is −½ log(2C/(C − 1)). nan where an m_c is 0 or two u_c coincide."""
    uniform_duality: float
    """Variance over c of ⟨w_c, m_c⟩, population form (UNC3; for C − 1 > P)."""
    norm_ratio: float
    """‖W‖_F²/‖M‖_F²; no value of its own at collapse. nan where M is 0."""
    effective_rank_means: float
    """exp(entropy of σ_j/Σσ), σ the singular values of M (Roy & Vetterli 2007); C − 1 at collapse. nan where M is 0."""
    effective_rank_within: float
    """The same of Σ_W^{1/2}; says how many directions the remaining variability has. nan where Σ_W is 0."""
    uniformity_means_variance: float
    """Population variance over pairs c ≠ c' of log ‖u_c − u_c'‖⁻¹ (GNC2). nan as `uniformity_means`."""
    rank_means: float
    """How many directions the class means span, by more than their rounding; C − 1 at collapse."""


# Classes up to which pairs are taken in blocks of rows (`pair_blocks`), else in tiles (`pair_sums`).
MOST_IN_BLOCKS = 2**11
_OF_SQUARES = ("nc1_trace", "nc1_trace_on_range", "nc1_ratio", "nc1_snr", "effective_rank_within", "rank_means")


def measure_collapse(
    statistics: ClassStatistics, classifier: LinearClassifier, spectrum: SNRSpectrum | None = None
) -> CollapseMetrics:
    """Every metric of neural collapse that class statistics and a last layer determine; formulas at `CollapseMetrics`.

    spectrum: `snr_spectrum(statistics)`, half of the work at P = 512, where the caller has it already; None: computed.

    Work: a P×P eigenvalue problem twice, one singular value problem of width min(C, P), and 2 C² P flops in blocks for
    the statistics over pairs of classes. Memory O(P² + C P). NC4 needs the examples: `nearest_class_center_mismatch`.

    Raises:
        ValueError: the classifier has another C or P than the statistics.
    """
    check_layer(statistics.class_means, classifier.weight)
    if statistics.hold_squares:  # first, as it takes memory that the rest does not need at once
        undefined, traces = 0.0, within_between_trace(statistics)
        variability = traces | _variability(statistics, spectrum)
    else:  # of a run that diverges, or whose features die: no eigenvalues, and no reason to end it
        undefined, variability = math.nan, dict.fromkeys(_OF_SQUARES, math.nan)
    weight, weight_scale = _scaled(classifier.weight.to(statistics.class_means.device))
    means, means_scale = _scaled(statistics.class_means - statistics.class_means.mean(0))
    rounding = 0.0
    if statistics.hold_squares:
        rounding = float(torch.linalg.vector_norm(means_rounding(statistics))) / means_scale
    # A class mean within rounding of their centre has no direction: from here on it is 0.
    means = torch.where(torch.linalg.vector_norm(means, dim=1, keepdim=True) > rounding, means, 0.0)
    variances = statistics.within_class_variances / means_scale / means_scale
    of_weight, of_means = _Vectors.of(weight), _Vectors.of(means)
    scales = torch.linalg.svdvals(means if of_means.triangle is None else of_means.triangle)
    if statistics.hold_squares:
        scales[int(variability["rank_means"]) :] = 0  # what is left is rounding of a 0
    values = (
        variability
        | _pairs_of_means(of_means, variances + undefined, rounding)
        | _geometry("means", of_means)
        | _geometry("classifier", of_weight)
        | (_many_pairs if len(weight) > MOST_IN_BLOCKS else _angles)("classifier", of_weight)
        | {"nc0_classifier": torch.linalg.vector_norm(weight.sum(0)) / torch.linalg.matrix_norm(weight)}
        | _duality(of_weight, of_means)
        | {"effective_rank_means": effective_rank(scales) + undefined}
    )
    values["norm_ratio"] = values["norm_ratio"] * (weight_scale / means_scale) * (weight_scale / means_scale)
    values["uniform_duality"] = values["uniform_duality"] * (weight_scale * means_scale) * (weight_scale * means_scale)
    numbers = torch.stack([torch.as_tensor(value, dtype=torch.float64).cpu() for value in values.values()]).tolist()
    # Every formula divides by 0 exactly where its metric is undefined, so ±inf means what nan does; say it one way.
    return CollapseMetrics(
        **{name: number if math.isfinite(number) else math.nan for name, number in zip(values, numbers, strict=True)}
    )


@dataclass(frozen=True, eq=False)
class _Vectors:
    """Class means or a classifier's rows, (C, P), and what several of the numbers need."""

    values: Tensor
    norms: Tensor
    """Of the rows, (C,)."""
    triangle: Tensor | None
    """R (P, P) of values = Q R where C − 1 > P, more vectors than a simplex of P dimensions has; else None."""

    @classmethod
    def of(cls, values: Tensor) -> _Vectors:
        many = len(values) - 1 > values.shape[1]
        return cls(values, row_norms(values), torch.linalg.qr(values, mode="r").R if many else None)

    @property
    def units(self) -> Tensor:
        """Made when they are asked for: a vocabulary's are large."""
        return unit_rows(self.values, self.norms)

    @property
    def undefined(self) -> Tensor:
        """nan where a row is 0, which has no direction, else 0."""
        return torch.where((self.norms > 0).all(), 0.0, torch.nan)


def _scaled(vectors: Tensor) -> tuple[Tensor, float]:
    """Vectors whose squares neither over- nor underflow, and the power of 2 that they were divided by."""
    _, exponent = torch.frexp(vectors.abs().amax())
    scale = math.ldexp(1.0, max(-1000, min(1000, int(exponent))))
    return vectors / scale, scale


def _variability(statistics: ClassStatistics, known: SNRSpectrum | None) -> dict[str, Tensor | float]:
    within = statistics.within_class_covariance
    between_trace = statistics.frequencies @ statistics.centered_class_means.square().sum(1)
    # Beyond the rank an eigenvalue is rounding of a 0, and its root would be 1e-8 of the largest.
    within_scales = torch.linalg.eigvalsh(within).clamp(min=0).sqrt()
    within_scales[: len(within) - determined_range(statistics).within_rank] = 0
    # Where M̄ lies in a range of Σ_W of lower dimension, that bounds the number of ω_j; the spectrum fills up with 0.
    spectrum = snr_spectrum(statistics) if known is None else known
    ratios = spectrum.singular_values[: min(statistics.num_classes - 1, spectrum.rank)]
    return {
        "nc1_ratio": within.trace() / between_trace,
        "nc1_snr": ratios.pow(-2).sum() if spectrum.defined and spectrum.means_rank == len(ratios) else torch.nan,
        "effective_rank_within": effective_rank(within_scales),
    }


def within_between_trace(statistics: ClassStatistics) -> dict[str, Tensor]:
    """tr(Σ_W Σ_B^†)/C on the whole range of Σ_B = A Aᵀ and on that which the class means span, and their rank.

    A = M̄ diag(√π) is P×C and A√π = 0 always. Reflecting √π onto the last axis makes that null direction a column, which
    is dropped; what is left, P×(C − 1), has the same other singular values s_j and left singular vectors u_j, and
    tr(Σ_W Σ_B^†) = Σ_j u_jᵀ Σ_W u_j / s_j² over all min(C − 1, P') of them. P' counts the features that are not
    constant over all examples to their rounding, since a constant one belongs to neither Σ_W nor Σ_B.

    A direction counts where s_j is above the rounding of the class means: their rounding E adds to A no more than
    ‖E diag(√π)‖_F <= ‖ρ‖ (`means_rounding`), and moves no singular value by more than that (Weyl). Behind a linear
    bottleneck of k < C − 1 units that leaves k, though rounding fills all of them. No cut-off is relative to s_1.
    """
    frequencies = statistics.frequencies
    weighted_means = statistics.centered_class_means.mul_(frequencies.sqrt()[:, None])
    spread = (statistics.within_class_covariance.diagonal() + weighted_means.square().sum(0)).sqrt()
    constant = max(statistics.num_examples * ROUND_OFF, statistics.feature_eps) * statistics.class_means.abs().amax(0)
    live = spread > constant
    factor = without_null_direction(weighted_means[:, live], frequencies.sqrt())
    if factor.shape[0] > factor.shape[1]:
        factor = torch.linalg.qr(factor, mode="r").R  # the left singular vectors are not needed
    _, scales, directions = torch.linalg.svd(factor, full_matrices=False)
    within = statistics.within_class_covariance[live][:, live]
    shares = ((directions @ within) * directions).sum(1) / scales.square()
    certain = scales > torch.linalg.vector_norm(means_rounding(statistics)[live])
    on_range = torch.where(certain, shares, 0.0).sum()
    return {
        "nc1_trace": torch.where(certain.all() & certain.any(), shares.sum(), torch.nan) / statistics.num_classes,
        "nc1_trace_on_range": torch.where(certain.any(), on_range, torch.nan) / statistics.num_classes,
        "rank_means": certain.sum(),
    }


def _pairs_of_means(means: _Vectors, variances: Tensor, rounding: float) -> dict[str, Tensor]:
    """All that is taken over pairs of class means, each known to `rounding`, in one pass over the blocks."""
    if len(variances) > MOST_IN_BLOCKS:
        return _many_pairs("means", means, variances, rounding)
    logarithms, distance_variance_ratios = RunningMoments(), variances.new_zeros(())
    norms = means.norms

    def visit(block: PairBlock) -> None:
        angles_rounding = rounding / norms
        sums = variances[block.rows, None] + variances[None, block.columns]
        squares = block.squared_distances(norms)
        squares.masked_fill_(squares <= 2 * rounding**2, 0.0)  # the means coincide
        distance_variance_ratios.add_(block.select(sums.div_(squares)).sum() / 2)
        # log ‖u − u'‖⁻¹ = −½ log 2(1 − cos); 0 where u and u' agree to their rounding.
        distances = (2 * block.gaps).sqrt_()
        distances.masked_fill_(distances <= angles_rounding[block.rows, None] + angles_rounding[block.columns], 0.0)
        logarithms.add(block.select(distances.log_().neg_()))

    undefined = means.undefined
    return _angles("means", means, visit) | {
        "cdnv": distance_variance_ratios / logarithms.count,
        "uniformity_means": logarithms.mean + undefined,
        "uniformity_means_variance": logarithms.variance + undefined,
    }


def _many_pairs(
    name: str, vectors: _Vectors, variances: Tensor | None = None, rounding: float = 0.0
) -> dict[str, Tensor]:
    """`_pairs_of_means` with variances, `_angles` without, of more classes."""
    sums = pair_sums(vectors.units, vectors.norms, variances, rounding)
    count, undefined = sums.gaps.count, vectors.undefined
    angles = {
        f"equiangularity_{name}": sums.gaps.variance.sqrt() + undefined,
        f"maximal_angle_{name}": sums.excess / count + undefined,
    }
    if variances is None:
        return angles
    mean, variance = uniformity(sums.distances)
    return angles | {
        "cdnv": sums.ratios / 2 / count,
        "uniformity_means": mean + undefined,
        "uniformity_means_variance": variance + undefined,
    }


def _angles(name: str, vectors: _Vectors, visit: Callable[[PairBlock], None] = lambda block: None) -> dict[str, Tensor]:
    """Equiangularity and maximal angle over all pairs of rows. visit: is given every block of pairs."""
    units, undefined = vectors.units, vectors.undefined
    gaps, excess, ideal = RunningMoments(), units.new_zeros(()), len(units) / (len(units) - 1)
    for block in pair_blocks(units):
        values = block.select(block.gaps)
        gaps.add(values)
        # cos + 1/(C − 1) = C/(C − 1) − (1 − cos).
        excess += torch.linalg.vector_norm(values - ideal, 1)
        visit(block)
    spread, excess = gaps.variance.sqrt() + undefined, excess / gaps.count + undefined
    return {f"equiangularity_{name}": spread, f"maximal_angle_{name}": excess}


def _geometry(name: str, vectors: _Vectors) -> dict[str, Tensor]:
    norms = vectors.norms
    return {
        f"equinorm_{name}": norms.std(correction=1) / norms.mean(),
        f"etf_error_{name}": _etf_error(vectors, vectors),
    }


def _duality(of_weight: _Vectors, of_means: _Vectors) -> dict[str, Tensor]:
    weight, means = of_weight.values, of_means.values
    weight_norm, means_norm = torch.linalg.matrix_norm(weight), torch.linalg.matrix_norm(means)
    apart = (weight / weight_norm).sub_(means / means_norm).square_().sum()
    product, spread = _etf_error(of_weight, of_means), (weight * means).sum(1).var(correction=0)
    # 1 − cos as half a squared distance of unit vectors: exact also where the cosine is 1 − 1e-17.
    angles = of_weight.units.sub_(of_means.units).square_().sum(1).mean() / 2
    return {
        "self_duality": apart,
        "self_duality_product": product,
        "self_duality_angle": angles + of_weight.undefined + of_means.undefined,
        "uniform_duality": spread,
        "norm_ratio": (weight_norm / means_norm).square(),
    }


def _etf_error(of_left: _Vectors, of_right: _Vectors) -> Tensor:
    """‖G/‖G‖_F − E‖_F for G = left rightᵀ (C, C) and E = (I − 11ᵀ/C)/√(C − 1)."""
    left, right, num_classes = of_left.values, of_right.values, len(of_left.values)
    # The error has no scale; at that of 1 no product over- or underflows.
    lengths = torch.linalg.matrix_norm(left), torch.linalg.matrix_norm(right)
    if of_left.triangle is None or of_right.triangle is None:
        gram = (left / lengths[0]) @ (right / lengths[1]).T
        ideal = torch.eye(num_classes, dtype=gram.dtype, device=gram.device) - 1 / num_classes
        return torch.linalg.matrix_norm(gram / torch.linalg.matrix_norm(gram) - ideal / (num_classes - 1) ** 0.5)
    # More classes than fit: G is too large to form, but its rank P keeps ⟨G, E⟩ away from ‖G‖_F, at
    # √(P/(C − 1)) of it or less, so 2 − 2⟨G/‖G‖_F, E⟩ does not cancel. ‖G‖_F from triangular factors.
    norm = torch.linalg.matrix_norm((of_left.triangle / lengths[0]) @ (of_right.triangle / lengths[1]).T)
    left_sum, right_sum = left.sum(0) / lengths[0], right.sum(0) / lengths[1]
    trace = (left * right).sum() / lengths[0] / lengths[1]
    return (2 - 2 * (trace - left_sum @ right_sum / num_classes) / (num_classes - 1) ** 0.5 / norm).sqrt()
