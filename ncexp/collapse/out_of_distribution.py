"""Out of distribution: NC5, scores of single examples from logits, features and train statistics, AUROC and FPR.

Every score is float64, (n,), and higher for an example that looks more like train data.

| score | formula | source |
|---|---|---|
| `maximum_softmax` | max_c p_c | Hendrycks & Gimpel 2017 |
| `maximum_logit` | max_c z_c | Hendrycks et al. 2022 |
| `energy` | log Σ_c exp z_c, −E(x) at temperature 1 | Liu, Wang, Owens & Li 2020 |
| `mahalanobis` | −min_c (h − μ_c)ᵀ Σ_W⁺ (h − μ_c) | Lee, Lee, Lee & Shin 2018, eq. 2 |
| `VirtualLogit` | log Σ_c exp z_c − α ‖Rᵀ(h − o)‖ | "ViM", Wang, Li, Feng & Zhang 2022, section 4 |
| `neco` | ‖P h‖/‖h‖ | Ammar et al. 2024, eq. 6 |
| `nearest_class_mean` | −min_c ‖h − μ_c‖ | |

Codes have other numbers under the same names: pytorch-ood 0.4 halves the Mahalanobis distance and takes the inverse of
n Σ_W + 10⁻⁶ I; NECO's authors standardise h, and multiply by max_c z_c for networks other than ResNets.

Detection is counted with examples inside as the positives, as Hendrycks & Gimpel and the authors above do: FPR is the
share of examples outside that are taken for inside. pytorch-ood 0.4 has those outside as positives; its FPR is another
number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.checks import all_finite, check_features, require_finite
from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.known_directions import KnownDirections, known_directions, units_rounding
from ncexp.collapse.linear_classifier import LinearClassifier


def outside_orthogonality(class_means: Tensor, outside_mean: Tensor) -> float:
    """NC5 = Ave_c |cos(μ_c, μ_out)|, from 0, orthogonal, to 1 (Ammar et al. 2024, eq. 5).

    Both are means as they are, about the origin of feature space: nothing is centred, in the paper and here. nan where
    one of the means is 0.

    Args:
        class_means: μ_c of the train examples, (C, P).
        outside_mean: μ_out, mean of the features of all examples outside, (P,).

    Raises:
        ValueError: other shapes, values that are not finite.

    >>> outside_orthogonality(torch.eye(3)[:2], torch.tensor([0.0, 0.0, 5.0]))
    0.0
    """
    if class_means.ndim != 2 or outside_mean.shape != class_means.shape[1:] or not len(class_means):
        raise ValueError(
            f"outside_mean: expected shape (P,) beside class means (C, P), got {tuple(outside_mean.shape)} and "
            f"{tuple(class_means.shape)}. Pass means of the features of one layer."
        )
    for name, values in (("class_means", class_means), ("outside_mean", outside_mean)):
        require_finite(name, all_finite(values))
    rows, other = class_means.to(torch.float64), outside_mean.to(class_means.device, torch.float64)
    # By the largest entry first: a square may over- or underflow.
    rows, other = rows / rows.abs().amax(1, keepdim=True), other / other.abs().amax()
    cosines = rows @ other / torch.linalg.vector_norm(rows, dim=1) / torch.linalg.vector_norm(other)
    return float(cosines.abs().mean())


def maximum_softmax(logits: Tensor) -> Tensor:
    """max_c p_c of logits (n, C). As 1 − p falls below 1e-16 it is 1 for all, and no longer tells them apart."""
    return torch.softmax(_logits(logits), dim=1).amax(1)


def maximum_logit(logits: Tensor) -> Tensor:
    """max_c z_c of logits (n, C)."""
    return _logits(logits).amax(1)


def energy(logits: Tensor) -> Tensor:
    """log Σ_c exp z_c of logits (n, C): the negative free energy at temperature 1."""
    return torch.logsumexp(_logits(logits), dim=1)


def nearest_class_mean(features: Tensor, class_means: Tensor) -> Tensor:
    """−min_c ‖h − μ_c‖ of features (n, P), μ_c (C, P) of the train examples."""
    means = class_means.to(features.device, torch.float64)
    return -_least_distances(_features(features, means.shape[1]), means)


def mahalanobis(features: Tensor, statistics: ClassStatistics) -> Tensor:
    """−min_c (h − μ_c)ᵀ Σ_W⁺ (h − μ_c) of features (n, P); Σ_W of the train examples, divided by n.

    Where Σ_W is singular to the precision of the features, Σ_W⁺ is its inverse on the directions that are known
    (known_directions.py), and what h − μ_c has in the others does not count: no ridge is added. In deep collapse all
    directions of Σ_W may be rounding; then nothing is known, and the score is refused.

    Raises:
        ValueError: features of another shape or not finite; no direction of Σ_W above its rounding.
    """
    inverse = _within(statistics).inverse_root.to(features.device)
    rows, means = _features(features, statistics.num_features), statistics.class_means.to(features.device)
    center = means.mean(0)
    return -_least_distances((rows - center) @ inverse, (means - center) @ inverse).square()


def _within(statistics: ClassStatistics) -> KnownDirections:
    largest = statistics.class_means.abs().amax(0)
    covariance = statistics.within_class_covariance
    rounding = units_rounding(statistics.feature_eps, largest, covariance.diagonal())
    known = known_directions(covariance, rounding)
    if not known.rank:
        raise ValueError(
            "statistics: expected within-class variation above the rounding of the features, got none. Use "
            "nearest_class_mean."
        )
    return known


def _least_distances(rows: Tensor, means: Tensor) -> Tensor:
    """min_c ‖x − m_c‖, (n,): the class by one matrix product, its distance from the difference, where nothing cancels.

    Of x less the average mean, so that an offset costs no digit.
    """
    center = means.mean(0)
    shifted, corners = rows - center, means - center
    nearest = (shifted @ corners.T - corners.square().sum(1) / 2).argmax(1)
    return torch.linalg.vector_norm(shifted - corners[nearest], dim=1)


def neco(
    features: Tensor,
    statistics: ClassStatistics,
    num_directions: int,
    logits: Tensor | None = None,
    standardize: bool = False,
) -> Tensor:
    """‖P h‖/‖h‖ of features (n, P), from 0 to 1: the share of h in the first principal directions of train features.

    P projects on the first d eigenvectors of Σ_T (Ammar et al. 2024, eq. 6). As printed, h is not centred, though P is
    that of centred features; `standardize` has, as the authors' code, every unit less its train mean and divided by its
    train deviation before all else, with a unit that is constant left at deviation 1. nan for an h of 0.

    Args:
        features: h, (n, P), any floating dtype.
        statistics: of the train examples.
        num_directions: d, from 1 to the rank of Σ_T; the authors tune it, C at collapse.
        logits: (n, C): the score is multiplied by max_c z_c, as the authors do for transformers; a negative one turns
            the order around.
        standardize: see above.

    Raises:
        ValueError: features of another shape or not finite; more directions than Σ_T has above its rounding.
    """
    mean, covariance = statistics.global_mean, statistics.total_covariance
    rows = _features(features, statistics.num_features)
    known = known_directions(covariance, units_rounding(statistics.feature_eps, mean, covariance.diagonal()))
    _check_directions(num_directions, known.rank)
    if standardize:
        variances = covariance.diagonal()
        deviations = torch.where(variances > (statistics.feature_eps * mean).square(), variances, 1.0).sqrt()
        rows = (rows - mean.to(rows)) / deviations.to(rows)
        covariance = covariance / deviations / deviations[:, None]
    principal = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :num_directions].to(rows)
    # The projection of a vector is never longer than it, but for rounding.
    shares = torch.linalg.vector_norm(rows @ principal, dim=1) / torch.linalg.vector_norm(rows, dim=1)
    return shares if logits is None else shares * maximum_logit(logits).to(shares)


@dataclass(frozen=True, eq=False)
class VirtualLogit:
    """ViM, fitted: the residual of features outside of the principal space, as one more logit (Wang et al. 2022)."""

    offset: Tensor
    """o = −W⁺ b, the feature whose logits are 0 where that is possible, (P,); 0 without a bias."""
    residual_space: Tensor
    """R: orthonormal columns, the eigenvectors of Ave (h − o)(h − o)ᵀ but for the first d, (P, P − d)."""
    scale: float
    """α = Σ_i max_c z_c(h_i) / Σ_i ‖Rᵀ(h_i − o)‖, over train examples."""
    classifier: LinearClassifier

    def __call__(self, features: Tensor) -> Tensor:
        """log Σ_c exp z_c − α ‖Rᵀ(h − o)‖, (n,): has the order of the paper's probability of the virtual logit.

        Raises:
            ValueError: features of another shape or not finite.
        """
        rows = _features(features, len(self.offset)).to(self.offset)
        return energy(self.classifier(rows)) - self.scale * self._residuals(rows)

    def _residuals(self, rows: Tensor) -> Tensor:
        return torch.linalg.vector_norm((rows - self.offset) @ self.residual_space, dim=1)

    @classmethod
    def fit(
        cls,
        statistics: ClassStatistics,
        classifier: LinearClassifier,
        num_directions: int,
        train_features: Iterable[Tensor],
    ) -> VirtualLogit:
        """The space from statistics, α from one pass over train features (any subset of them, as in the paper).

        Args:
            statistics: of the train examples.
            classifier: W and b.
            num_directions: d, from 1 to P − 1; the authors' code has 1000 for P >= 2048, 512 for P >= 768, else P/2.
            train_features: batches (n, P).

        Raises:
            ValueError: d out of range, no features, train features that all lie in the principal space (α would be
                infinite), and what a score refuses.
        """
        weight = classifier.weight.to(statistics.class_means.device)
        _check_directions(num_directions, statistics.num_features - 1)
        offset = torch.zeros_like(statistics.global_mean)
        if classifier.bias is not None:
            offset = -torch.linalg.pinv(weight) @ classifier.bias.to(weight)
        moved = statistics.global_mean - offset
        moments = statistics.total_covariance + torch.outer(moved, moved)
        residual_space = torch.linalg.eigh(moments).eigenvectors.flip(1)[:, num_directions:]
        unscaled = cls(offset, residual_space, 1.0, classifier.to(weight.device))
        logits, residuals = torch.zeros_like(offset[0]), torch.zeros_like(offset[0])
        for features in train_features:
            rows = _features(features, len(offset)).to(offset)
            logits += unscaled.classifier(rows).amax(1).sum()
            residuals += unscaled._residuals(rows).sum()
        rounding = statistics.feature_eps * float(moments.trace().sqrt())
        if not float(residuals) > rounding:
            raise ValueError(
                f"train_features: expected residuals outside of {num_directions} directions, got a sum of "
                f"{float(residuals):.3g}. Pass train features, or take fewer directions."
            )
        return cls(offset, residual_space, float(logits / residuals), unscaled.classifier)


def auroc(inside: Tensor, outside: Tensor) -> float:
    """P(s_in > s_out) + ½ P(s_in = s_out) over all pairs of scores: the area under the ROC curve, ties at ½.

    By ranks in O(n log n) (Mann & Whitney 1947); exact. ½ is chance, 1 perfect.

    Args:
        inside: scores of examples inside, (n,), higher is more inside; infinite ones are ordered like others.
        outside: scores of examples outside, (k,).

    Raises:
        ValueError: an empty or other shape than (n,), NaN.

    >>> auroc(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
    0.875
    """
    inside, outside = _scores("inside", inside), _scores("outside", outside).to(inside.device)
    ordered = outside.sort().values
    below = torch.searchsorted(ordered, inside, right=False).sum()
    not_above = torch.searchsorted(ordered, inside, right=True).sum()
    return int(below + not_above) / (2 * len(inside) * len(outside))


def false_positive_rate(inside: Tensor, outside: Tensor, true_positive_rate: float = 0.95) -> float:
    """FPR at 95 % TPR: the share outside with s >= t, t the largest threshold that at least 95 % inside reach, s >= t.

    t is the k-th largest score inside, k the least number with k/n >= 0.95; there is no interpolation. That is the
    first point with tpr >= 0.95 of scikit-learn's roc_curve with drop_intermediate=False. By default roc_curve leaves
    out points on a straight line, and the first one that is left may have a much larger fpr (OpenOOD's code has that).
    ViM's code has k = ⌊0.95 n⌋ and so a TPR below 95 % where 20 does not divide n.

    Args:
        inside: scores of examples inside, (n,), higher is more inside.
        outside: scores of examples outside, (k,).
        true_positive_rate: above 0, at most 1.

    Raises:
        ValueError: an empty or other shape than (n,), NaN, a rate out of range.

    >>> false_positive_rate(torch.arange(20.0), torch.arange(20.0))
    0.95
    """
    if not 0 < true_positive_rate <= 1:
        raise ValueError(f"true_positive_rate: expected above 0, at most 1, got {true_positive_rate}. Usual is 0.95.")
    inside, outside = _scores("inside", inside), _scores("outside", outside).to(inside.device)
    # Not ⌈0.95 n⌉, whose product is rounded: 0.55 · 100 is above 55.
    shares = torch.arange(1, len(inside) + 1, dtype=torch.float64) / len(inside)
    threshold = inside.sort(descending=True).values[int((shares < true_positive_rate).sum())]
    return int((outside >= threshold).sum()) / len(outside)


def _logits(logits: Tensor) -> Tensor:
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits: expected a floating tensor (n, C) with C >= 2, got {tuple(logits.shape)} of {logits.dtype}. "
            "Pass the outputs of the last layer."
        )
    if len(logits):
        require_finite("logits", all_finite(logits))
    return logits.detach().to(torch.float64)


def _features(features: Tensor, num_features: int) -> Tensor:
    check_features(features, num_features)
    if len(features):
        require_finite("features", all_finite(features))
    return features.detach().to(torch.float64)


def _scores(name: str, scores: Tensor) -> Tensor:
    if scores.ndim != 1 or not len(scores) or not scores.is_floating_point():
        raise ValueError(
            f"{name}: expected a floating tensor (n,) with n >= 1, got {tuple(scores.shape)} of {scores.dtype}. Pass "
            "one score per example."
        )
    if bool(scores.isnan().any()):
        raise ValueError(f"{name}: expected scores that can be ordered, got NaN. Look at the features.")
    return scores.detach().to(torch.float64)


def _check_directions(num_directions: int, most: int) -> None:
    if not 1 <= num_directions <= most:
        raise ValueError(
            f"num_directions: expected 1 to {most}, got {num_directions}. More than that are not known from the train "
            "features, or leave nothing."
        )
