"""Numbers of depth: ranks and alignment of layers, effective depth, a probe of each layer, norms and spectra.

All of class statistics and weights, so that snapshots of old runs have them too; errors of a layer need its features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.checks import all_finite, check_layer, require_finite
from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.least_squares import Ridge, decompose_mse, least_squares_classifier
from ncexp.collapse.linear_algebra import ROUND_OFF, effective_rank, without_null_direction
from ncexp.collapse.linear_classifier import LinearClassifier


def stable_rank(matrix: Tensor) -> float:
    """‖A‖_F²/‖A‖_2², from 1 to the rank (Rudelson & Vershynin 2007); nan where A is 0.

    Raises:
        ValueError: what is no floating matrix with finite values.
    """
    return _stable_rank(_singular_values(matrix))


def effective_rank_of(matrix: Tensor) -> float:
    """exp(−Σ p_j log p_j), p_j = σ_j/Σσ, from 1 to the rank (Roy & Vetterli 2007); nan where A is 0.

    Raises:
        ValueError: what is no floating matrix with finite values.
    """
    return float(effective_rank(_singular_values(matrix)))


def _stable_rank(scales: Tensor) -> float:
    return float((scales / scales[0]).square().sum())


def _singular_values(matrix: Tensor) -> Tensor:
    _check_matrix("matrix", matrix)
    return torch.linalg.svdvals(matrix.detach().to(torch.float64))


@dataclass(frozen=True, kw_only=True)
class SubspaceAlignment:
    """How the subspace that a weight reads first lies to the span of the class means it is given."""

    overlap: float
    """‖QᵀV‖_F²/min(dim Q, dim V) = Ave_j cos² θ_j, θ_j the principal angles: 0 orthogonal, 1 one within the other."""
    largest_angle: float
    """max_j θ_j in degrees, 0 where one subspace lies within the other."""


def next_weight_alignment(statistics: ClassStatistics, weight: Tensor) -> SubspaceAlignment:
    """The top C − 1 right singular directions of the next weight, and the span of the centred class means.

    Layers that have collapsed align these subspaces (Rangamani, Lindegaard, Galanti & Poggio 2023, by principal
    angles). Q spans the class means about their mean, which the sizes of classes do not move; V are the first
    min(C − 1, rank W) right singular vectors of W. A direction counts where its singular value is above max(shape) ε of
    the largest and, of class means, above their rounding at the features' precision, ε_f of their size. Both numbers
    are nan where either subspace is {0}.

    Args:
        statistics: of the layer's output, (P features).
        weight: W of the layer that reads it, (any, P).

    Raises:
        ValueError: a weight that does not read P features or is not finite.
    """
    _check_reads(statistics, weight)
    means = statistics.class_means - statistics.class_means.mean(0)
    sizes = statistics.within_class_covariance.diagonal() + statistics.class_means.square().amax(0)
    span = _leading(means, statistics.num_classes - 1, statistics.feature_eps * float(sizes.sum().sqrt()))
    read = _leading(weight.detach().to(means), statistics.num_classes - 1)
    if not span.shape[1] or not read.shape[1]:
        return SubspaceAlignment(overlap=math.nan, largest_angle=math.nan)
    small, large = sorted((span, read), key=lambda basis: basis.shape[1])
    cross = large.T @ small
    # The sine is exact where the angle is small; the cosine is not.
    sine = torch.linalg.matrix_norm(small - large @ cross, ord=2)
    angle = math.degrees(math.asin(min(float(sine), 1.0)))
    return SubspaceAlignment(overlap=float(cross.square().sum()) / small.shape[1], largest_angle=angle)


def _leading(rows: Tensor, most: int, rounding: float = 0.0) -> Tensor:
    """The first right singular vectors, columns of (P, k), k <= most, of singular values above the rounding."""
    _, scales, directions = torch.linalg.svd(rows, full_matrices=False)
    known = (scales > max(rows.shape) * ROUND_OFF * scales[:1]) & (scales > rounding)
    return directions[known][:most].T


def effective_depth(errors: Sequence[float], tolerance: float = 0.0) -> int:
    """The number of the first layer after which the error stays at that of the last, from 1 to L.

    min {l : e_k <= e_L + tolerance for all k >= l}, after Galanti, Galanti & Ben-Shaul 2022, whose ε-effective depth is
    the first l with e_l <= ε, e_l the error of the nearest class mean on train examples.

    Args:
        errors: e_l, of every layer in the order of depth, as shares from 0 to 1; at least one.
        tolerance: what counts as the same error, in the unit of the errors.

    Raises:
        ValueError: no layer, an error that is not finite, a tolerance that is negative or not finite.

    >>> effective_depth([0.5, 0.1, 0.2, 0.1, 0.1])
    4
    """
    if not len(errors) or not all(math.isfinite(error) for error in errors):
        raise ValueError(f"errors: expected finite numbers, at least one, got {list(errors)}. One for each layer.")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance: expected a finite number >= 0, got {tolerance}. Pass a share of examples.")
    above = [place for place, error in enumerate(errors, start=1) if error > errors[-1] + tolerance]
    return above[-1] + 1 if above else 1


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerProbe:
    """The least-squares classifier on a layer's features: exact from moments, without a step of gradient descent."""

    classifier: LinearClassifier
    """W̃_LS of the layer; its error needs features: `classifier(features).argmax(1)`."""
    loss: float
    """½ Ave ‖W̃_LS h̃ − y‖², without the penalty."""
    explained: float
    """1 − loss/(½ (1 − Σ_c π_c²)): the share of the labels' variance that the layer's features explain linearly, from 0
    to 1 at ridge 0. nan where the squares of the features overflow."""


def layer_probe(statistics: ClassStatistics, ridge: Ridge = 0.0) -> LayerProbe:
    """The probe of a layer from its class statistics; a linear probe as a rule is trained, this one is solved for.

    Args:
        statistics: of the layer's features, of the train split.
        ridge: λ, as for `least_squares_classifier`; 0 for the best fit.

    Raises:
        ValueError: a ridge that is negative or not finite; features too large or too small to be squared in float64.
    """
    classifier = least_squares_classifier(statistics, ridge)
    loss = decompose_mse(statistics, classifier, ridge).loss_ls_data
    spread = (1 - float(statistics.frequencies.square().sum())) / 2
    return LayerProbe(classifier=classifier, loss=loss, explained=1 - loss / spread)


@dataclass(frozen=True, kw_only=True)
class AbsoluteNorms:
    """Sizes that class statistics and the last layer determine; nothing is divided by another size."""

    class_means: float
    """‖M‖_F/√C, columns of M the class means about their mean: the root mean square of ‖m_c‖. `norm_ratio` is
    (weight/class_means)²."""
    weight: float
    """‖W‖_F/√C: the root mean square of ‖w_c‖."""
    bias: float
    """‖b‖; 0 without a bias."""
    at_global_mean: float
    """‖W μ_G + b‖: the length of the output at the mean feature."""
    features: float
    """(Ave ‖h‖²)^{1/2} = (tr Σ_W + tr Σ_B + ‖μ_G‖²)^{1/2}. Ave ‖h‖ itself is no function of the statistics; it is at
    most this, and equal to it where all features are equally long."""


def absolute_norms(statistics: ClassStatistics, classifier: LinearClassifier) -> AbsoluteNorms:
    """The sizes of features, class means and the last layer, for laws that are about thresholds of a norm.

    Raises:
        ValueError: the classifier has another C or P than the statistics.
    """
    check_layer(statistics.class_means, classifier.weight)
    classifier, root = classifier.to(statistics.class_means.device), statistics.num_classes**0.5
    frame = statistics.class_means - statistics.class_means.mean(0)
    squares = statistics.frequencies @ (statistics.within_class_variances + statistics.class_means.square().sum(1))
    return AbsoluteNorms(
        class_means=float(torch.linalg.matrix_norm(frame)) / root,
        weight=float(torch.linalg.matrix_norm(classifier.weight)) / root,
        bias=0.0 if classifier.bias is None else float(torch.linalg.vector_norm(classifier.bias)),
        at_global_mean=float(torch.linalg.vector_norm(classifier(statistics.global_mean))),
        features=float(squares.sqrt()),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectra:
    """Each in descending order, float64."""

    weight: Tensor
    """Singular values of W, (min(C, P),)."""
    class_means: Tensor
    """Singular values of M, the class means about their mean, (min(C − 1, P),), without the one that is always 0."""
    within: Tensor
    """Eigenvalues of Σ_W, (P,); rounding of a 0 may be below it."""
    between: Tensor
    """Eigenvalues of Σ_B that need not be 0, (min(C − 1, P),)."""

    @property
    def stable_rank_weight(self) -> float:
        """Of W, from 1 to min(C, P); nan where W is 0."""
        return _stable_rank(self.weight)

    @property
    def stable_rank_means(self) -> float:
        """Of M, from 1 to min(C − 1, P); nan where M is 0."""
        return _stable_rank(self.class_means)

    @property
    def stable_rank_within(self) -> float:
        """Of Σ_W^½: tr Σ_W over its largest eigenvalue, from 1 to P; nan where Σ_W is 0."""
        return float((self.within / self.within[0]).sum())

    @property
    def effective_rank_weight(self) -> float:
        """Of W, from 1 to min(C, P); nan where W is 0. Those of M and Σ_W^½ are in `CollapseMetrics`."""
        return float(effective_rank(self.weight))


def spectra(statistics: ClassStatistics, classifier: LinearClassifier) -> Spectra:
    """The full spectra of W, M, Σ_W and Σ_B.

    Those of M and Σ_B come from a matrix of which the direction that is always 0 has been taken out, and Σ_B is never
    formed, so that small values are not lost to ε of the largest squared.

    Raises:
        ValueError: the classifier has another C or P than the statistics; moments that are not finite.
    """
    check_layer(statistics.class_means, classifier.weight)
    require_finite("statistics", all_finite(statistics.within_class_covariance))
    means, roots = statistics.class_means, statistics.frequencies.sqrt()
    frame = without_null_direction(means - means.mean(0), torch.full_like(roots, len(roots) ** -0.5))
    weighted = without_null_direction(roots[:, None] * statistics.centered_class_means, roots)
    return Spectra(
        weight=torch.linalg.svdvals(classifier.weight.to(means.device)),
        class_means=torch.linalg.svdvals(frame),
        within=torch.linalg.eigvalsh(statistics.within_class_covariance).flip(0),
        between=torch.linalg.svdvals(weighted).square(),
    )


def _check_matrix(name: str, matrix: Tensor) -> None:
    if matrix.ndim != 2 or not matrix.numel() or not matrix.is_floating_point():
        raise ValueError(
            f"{name}: expected a floating matrix, got {tuple(matrix.shape)} of {matrix.dtype}. Flatten a convolution's "
            "weight to (out, in · kernel)."
        )
    require_finite(name, all_finite(matrix))


def _check_reads(statistics: ClassStatistics, weight: Tensor) -> None:
    _check_matrix("weight", weight)
    if weight.shape[1] != statistics.num_features:
        raise ValueError(
            f"weight: expected P = {statistics.num_features} columns, got {weight.shape[1]}. Pass the weight of the "
            "layer that reads these features."
        )
