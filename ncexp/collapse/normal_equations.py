"""The second-moment matrix of the least-squares problem, in factored form: its minimiser, and distance to it.

With h̃ = [h; 1] and W̃ = [W, b], the deviations of h̃ from its class means have no bias part, so that for any W̃

    L(W̃) = ½ ‖W̃ F − Y‖_F²,   F = [ Σ_W^{1/2}  M diag(√π)  diag(√λ) ]      Y = [ 0  diag(√π)  0 ],
                                   [ 0          √πᵀ                  ]

F Fᵀ = Σ̃_T + μ̃_G μ̃_Gᵀ + λI. Hence W̃_LS = Y F^†, and by Pythagoras L^⊥_LS = ½ ‖(W̃ F − Y) Q‖_F² with Q an orthonormal
basis of the row space of F: the distance needs the residual W̃ F − Y only, which stays accurate where W̃ and W̃_LS agree
to many digits. (W̃ F − Y) Fᵀ is the gradient of L, so this is ½ tr{g (F Fᵀ)⁻¹ gᵀ}, and ½ tr{Δ F Fᵀ Δᵀ} of HPD22 Thm. 1
with Δ = W̃ − W̃_LS = g (F Fᵀ)⁻¹. Neither class below squares the ratio of class means to deviations; in deep collapse
that is what would be lost first.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.determined_range import DeterminedRange, determined_range
from ncexp.collapse.linear_algebra import (
    DIGITS_OF_LOSS,
    EVERY_DIGIT,
    ROUND_OFF,
    graded_svd,
    ordered_cholesky,
    with_null_direction,
    without_null_direction,
)
from ncexp.collapse.linear_classifier import LinearClassifier

# Products of two numbers of 20 bits sum without rounding over up to 2^13 features in the 53 bits of float64.
_SLICE_BITS = 20
# Of the sum of squares: what moments may lose of it.
_CERTAIN = 1e-12
# Classes up to which products may be (C, C).
MOST_TOGETHER = 2**11
# Residuals at a time (32 MiB of float64).
_BLOCK = 2**22


@dataclass(frozen=True)
class ClassMeanFit:
    """Sums over classes of the residuals r_c = W μ_c + b − e_c."""

    squares: Tensor
    """Σ_c π_c ‖r_c‖²."""
    at_mean: Tensor
    """Σ_c π_c r_c = W μ_G + b − π, (C,)."""
    on_basis: Tensor
    """Σ_c √π_c r_c v_cᵀ, (C, k), v_c the rows of the basis (C, k) that was asked for."""


def class_mean_fit(statistics: ClassStatistics, classifier: LinearClassifier, basis: Tensor) -> ClassMeanFit:
    """How a layer sends the class means to their one-hot corners, to more digits than float64 products keep.

    In deep collapse W μ_c + b agrees with e_c to many digits and the loss is the square of what is left. A product in
    float64 rounds that at 1e-16 ‖W‖‖μ‖, a visible share of a small loss; here it is exact to about 1e-22 ‖W‖‖μ‖.
    By moments where there are more classes than a layer of P features can send to their corners, and W is no larger
    than that takes; by the residuals themselves, some classes at a time, where sums of products could hide them.
    """
    frequencies = statistics.frequencies
    if statistics.num_classes - 1 > statistics.num_features:
        fit = _fit_by_moments(statistics, classifier, basis)
        products = classifier.weight.square().sum(0) @ statistics.class_means.square().amax(0)
        if bool(ROUND_OFF * products <= _CERTAIN * fit.squares):
            return fit
    squares, at_mean, on_basis = frequencies.new_zeros(()), torch.zeros_like(frequencies), torch.zeros_like(basis)
    for classes in torch.arange(len(frequencies), device=frequencies.device).split(-(-_BLOCK // len(frequencies))):
        residuals, weights = _exact_residuals(statistics.class_means, classifier, classes), frequencies[classes]
        squares += weights @ residuals.square().sum(1)
        at_mean += weights @ residuals
        on_basis += residuals.T @ (weights.sqrt()[:, None] * basis[classes])
    return ClassMeanFit(squares, at_mean, on_basis)


def _fit_by_moments(statistics: ClassStatistics, classifier: LinearClassifier, basis: Tensor) -> ClassMeanFit:
    """In O(C P²), without the C×C residuals. Where these are of size 1, and W of a size that makes them so, there is
    nothing to cancel in

    Σ_c π_c ‖r_c‖² = ‖W μ_G + b − π‖² + tr(W Σ_B Wᵀ) − 2 Σ_c π_c ⟨w_c, m_c⟩ + 1 − ‖π‖².
    """
    frequencies, means, weight = statistics.frequencies, statistics.centered_class_means, classifier.weight
    roots = frequencies.sqrt()[:, None]
    at_mean = classifier(statistics.global_mean) - frequencies
    spread = ((weight @ statistics.between_class_covariance) * weight).sum()
    squares = at_mean.square().sum() + spread + 1 - frequencies.square().sum()
    # r_c = (W μ_G + b − π) + W m_c − (e_c − π), in place: a vocabulary's (C, P) are large.
    rooted = roots * basis
    on_basis = torch.outer(at_mean + frequencies, rooted.sum(0))
    on_basis += weight @ (means.T @ rooted)
    on_basis -= rooted
    return ClassMeanFit(
        squares=squares - 2 * frequencies @ (weight * means).sum(1),
        at_mean=at_mean,
        on_basis=on_basis,
    )


def _exact_residuals(means: Tensor, classifier: LinearClassifier, classes: Tensor) -> Tensor:
    """r_c, one row for each of the classes, (k, C)."""
    means_head, means_tail = _slices(means[classes])
    weight_head, weight_tail = _slices(classifier.weight)
    # The product of the heads is exact; it and b and −1 meet by a sum whose rounding is kept (Knuth), and all that is
    # small joins last.
    head = means_head @ weight_head.T
    tail = means_head @ weight_tail.T + means_tail @ classifier.weight.T
    corners = torch.zeros_like(head).scatter_(1, classes[:, None], -1)
    for term in (corners,) if classifier.bias is None else (classifier.bias, corners):
        total = head + term
        kept = total - head
        tail += (head - (total - kept)) + (term - kept)
        head = total
    return head + tail


def _slices(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The first 20 bits of every entry, counted from its row's largest, and the rest."""
    _, exponents = torch.frexp(matrix.abs().amax(1, keepdim=True))
    step = torch.ldexp(torch.ones_like(matrix[:, :1]), exponents - _SLICE_BITS)
    head = (matrix / step).round() * step
    return head, matrix - head


class WhitenedProblem:
    """The problem where N = Σ_W + λ_W I is safely positive definite: bias eliminated, features whitened by N.

    The best bias for W is b*(W) = (1 − β)(π − W μ_G), β = λ_b/(1 + λ_b): 0 for a free bias, 1 for none. What is left is

        L(W, b) = ½ ‖W [L_N, G] − [0, D]‖_F² + ½ (1 + λ_b) ‖b − b*(W)‖²,    N = L_N L_Nᵀ,
        G = [M̄ diag(√π), √β μ_G]   (P, C+1),        D = [diag(√π) − π√πᵀ, √β π]   (C, C+1).

    With T = L_N^{-1} G = U diag(s) Vᵀ the minimiser is W = D V diag(s/(1 + s²)) Uᵀ L_N^{-1}, and the row space of
    [L_N, G] = L_N [I, T] has the basis [U; V diag(s)] diag(1/√(1 + s²)), and [U_⊥; 0] where T has not full row rank.

    What the minimiser leaves of the means, W G − D = −D V diag(1/(1 + s²)) Vᵀ − D (I − V Vᵀ), is known without forming
    W G: in deep collapse, s ≫ 1, that difference keeps no digit. L_NC2/3 is half its square, the last column, which is
    √β (W μ_G − π), weighted by β: W μ_G + b − π = β (W μ_G − π). Both G and D are 0 on (√π, 0), where rounding of T
    would leave 1/(1 + s²) at 1; that direction is taken out before.

    Units are taken in the order of G_i/N_ii^{1/2}; see `ordered_cholesky`.
    """

    def __init__(self, statistics: ClassStatistics, order: Tensor, triangle: Tensor, bias_ridge: float) -> None:
        self.statistics = statistics
        self._order, self._triangle, self._bias_ridge = order, triangle, bias_ridge
        self._shrink = 1.0 if math.isinf(bias_ridge) else bias_ridge / (1 + bias_ridge)
        self._frequencies, self._mean = statistics.frequencies, statistics.global_mean[order]
        self._roots = self._frequencies.sqrt()
        rows = statistics.centered_class_means[:, order]
        factor = without_null_direction(rows.mul_(self._roots[:, None]), self._roots)
        del rows  # of a vocabulary's size, as each of what follows
        if self._shrink > 0:
            factor = torch.cat([factor, self._shrink**0.5 * self._mean[None]])
        # Tᵀ, with as many rows as classes: the decomposition of a tall matrix is several times faster than of a wide.
        whitened = torch.linalg.solve_triangular(triangle, factor.T, upper=False).T
        # One row of T short, a row of zeros makes V square and I − V Vᵀ = 0; with many more short nothing cancels.
        number = len(factor)
        del factor
        if number == len(triangle) + 1:
            whitened = torch.nn.functional.pad(whitened, (0, 1))
        right, self._scales, left = graded_svd(whitened, EVERY_DIGIT)
        del whitened
        self._left, self._complete = left[:, : len(triangle)].T, len(self._scales) == number
        self._by_mean = right[-1] if self._shrink > 0 else torch.zeros_like(self._scales)
        self.class_basis = with_null_direction(right[: len(self._roots) - 1], self._roots)

    @property
    def _targets(self) -> Tensor:
        """D V, (C, k); made when it is asked for."""
        targets = self._roots[:, None] * self.class_basis
        return targets.add_(torch.outer(self._frequencies, self._shrink**0.5 * self._by_mean))

    @classmethod
    def build(cls, statistics: ClassStatistics, weight_ridge: float, bias_ridge: float) -> WhitenedProblem | None:
        """The problem, or None where N is not safely positive definite, or at λ_W = 0 a direction or a unit's variance
        holds rounding alone.

        bias_ridge inf is a layer without bias.
        """
        if weight_ridge == 0 and (not (known := determined_range(statistics)).complete or known.num_still):
            return None
        covariance = statistics.within_class_covariance
        identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        ridged = covariance + weight_ridge * identity
        signal = statistics.frequencies @ statistics.centered_class_means.square()
        if bias_ridge > 0:
            signal += statistics.global_mean.square()
        factor = ordered_cholesky(ridged, signal)
        return None if factor is None else cls(statistics, *factor, bias_ridge)

    def freedom(self, weight: Tensor) -> Tensor:
        """0: nothing is left out. As of `FactoredProblem`."""
        return weight.new_zeros(())

    def minimizer(self) -> LinearClassifier:
        """W̃_LS."""
        rotated = self._targets.mul_(self._scales / (1 + self._scales.square())) @ self._left.T
        ordered = torch.linalg.solve_triangular(self._triangle, rotated, upper=False, left=False)
        del rotated
        weight = torch.empty_like(ordered)
        weight[:, self._order] = ordered
        if math.isinf(self._bias_ridge):
            return LinearClassifier(weight)
        return LinearClassifier(weight, (1 - self._shrink) * (self._frequencies - ordered @ self._mean))

    def least_terms(self, optimum: LinearClassifier) -> tuple[Tensor, Tensor]:
        """L_NC1 and L_NC2/3 of the minimiser."""
        left_over = self._targets.div_(1 + self._scales.square())
        if self._complete:
            at_mean = left_over @ self._by_mean
            squares = (left_over @ self.class_basis.T).square().sum()
        else:
            kept = self._scales.square() / (1 + self._scales.square())
            at_mean = self._shrink**0.5 * self._frequencies - self._targets @ (kept * self._by_mean)
            # ‖D‖² = 1 − ‖π‖² + β ‖π‖², less what V has of it.
            beyond = 1 - (1 - self._shrink) * self._frequencies.square().sum() - self._targets.square_().sum()
            squares = left_over.square().sum() + beyond - at_mean.square().sum()
        spread_and_penalty = (optimum.weight[:, self._order] @ self._triangle).square().sum()
        if optimum.bias is not None:
            spread_and_penalty = spread_and_penalty + self._bias_ridge * optimum.bias.square().sum()
        return spread_and_penalty / 2, (squares + self._shrink * at_mean.square().sum()) / 2

    def distance(self, classifier: LinearClassifier, fit: ClassMeanFit) -> Tensor:
        """L^⊥_LS of a layer with this fit to the class means on `class_basis`."""
        lost_to_bias = fit.at_mean.new_zeros(())
        without_bias = fit.at_mean
        if classifier.bias is not None:
            without_bias = fit.at_mean - classifier.bias
            gradient = fit.at_mean + self._bias_ridge * classifier.bias
            lost_to_bias = gradient.square().sum() / (1 + self._bias_ridge)
        # (W [L_N, G] − [0, D]) [U; V diag(s)]: the part on centred class means and global mean, then that on features.
        whitened = classifier.weight[:, self._order] @ self._triangle
        along = whitened @ self._left
        beyond = whitened.sub_(along @ self._left.T).square_().sum()
        del whitened
        on_means = torch.outer(fit.at_mean, self._roots @ self.class_basis)
        torch.sub(fit.on_basis, on_means, out=on_means)
        on_means += torch.outer(without_bias, self._by_mean).mul_(self._shrink**0.5)
        on_means = on_means.mul_(self._scales).add_(along).div_((1 + self._scales.square()).sqrt())
        lost = on_means.square_().sum()
        return (lost + beyond + lost_to_bias) / 2


class FactoredProblem:
    """The problem in general: F as it stands, on the directions that the statistics determine; see determined_range.py.

    Its singular value decomposition is that of F with each feature divided by its deviation, within classes and between
    them together, which changes neither the row space of F nor the rank, but does change which of them rounding
    decides: no entry is above 1, and units that are all noise stand beside units that are all signal.
    """

    def __init__(self, statistics: ClassStatistics, weight_ridge: float, bias_ridge: float, bias: bool) -> None:
        known = determined_range(statistics)
        self.freedom = known.freedom
        self.statistics = replace(statistics, class_means=known.class_means(statistics))
        means, self._roots = self.statistics.class_means, statistics.frequencies.sqrt()
        # A free bias takes W μ_G: of an offset, F would have nothing but that in its first digits.
        free_bias = bias and bias_ridge == 0
        self._shift = self.statistics.global_mean if free_bias else torch.zeros_like(statistics.global_mean)
        means = means - self._shift if free_bias else means
        deviations = known.covariance_factor()
        extents = (statistics.centered_class_means if free_bias else statistics.class_means).abs().amax(0)
        scales = torch.hypot(statistics.within_class_covariance.diagonal().sqrt(), extents)
        scales[~known.units] = 1.0
        self._centered = replace(self.statistics, class_means=means)
        if bias:
            means = torch.nn.functional.pad(means, (0, 1), value=1.0)
            deviations = torch.nn.functional.pad(deviations, (0, 1))
            scales = torch.nn.functional.pad(scales, (0, 1), value=1.0)
        ridge = torch.full((means.shape[1],), weight_ridge, dtype=means.dtype, device=means.device)
        if bias:
            ridge[-1] = bias_ridge
        self._bias, self._scales, self._rest = bias, scales, torch.cat([deviations, torch.diag(ridge.sqrt())])
        factor = torch.cat([self._roots[:, None] * means, self._rest]).div_(scales)
        unread, reading = _span_and_rest(self._reading_nothing(known, statistics.global_mean, weight_ridge, free_bias))
        least = max(factor.shape) * ROUND_OFF
        left, sizes, right = graded_svd(factor @ reading, DIGITS_OF_LOSS, least)
        certain, right = sizes > least * sizes[:1], right @ reading.T
        self.class_basis, self._rest_basis = left[: len(means), certain], left[len(means) :, certain]
        self._sizes, self._right, self._factor = sizes[certain], right[certain], factor
        self._free = torch.cat([unread.T, right[~certain]])

    def _reading_nothing(self, known: DeterminedRange, mean: Tensor, weight_ridge: float, free_bias: bool) -> Tensor:
        """Layers that are 0 on what is left of the features, Vᵀ ρ⁻¹: known, and not to be found again among rounding.

        Columns, in units of the scales. Without a free bias only those of them that do not read μ_G, where that counts;
        none where there is a penalty, which they do not escape.
        """
        live, left_out = known.units.nonzero()[:, 0], known.left_out if weight_ridge == 0 else known.left_out[:, :0]
        read = (mean[live] / known.rounding[live]) @ left_out
        if not free_bias and float(torch.linalg.vector_norm(read)) > known.mean_factor:
            left_out = left_out @ _span_and_rest(read[:, None])[1]
        columns = torch.zeros(len(self._scales), left_out.shape[1], dtype=mean.dtype, device=mean.device)
        columns[live] = left_out * (self._scales[live] / known.rounding[live])[:, None]
        return columns

    @functools.cached_property
    def _fitted(self) -> tuple[Tensor, Tensor]:
        """Y u_j, (C, k), what a layer gains by each direction, 0 where that is rounding; and the minimiser of least
        ‖W̃‖_F, as the layer [W, b + W shift] of features less `shift`.

        u_j is known to ε s_1/s_j, so that of Y u_j that much of what the best layer leaves, Y − W̃ F, is rounding. A
        layer that brings it about has W̃ = Y u_j/s_j and rounds as much.
        """
        # Y has entries in the classes' places only, so only those rows of the basis meet it.
        gains = self._roots[:, None] * self.class_basis
        solution = self._solved(gains)
        left_over = (2 * torch.stack(self._terms(solution)).sum()).sqrt()
        least = max(self._factor.shape) * ROUND_OFF * self._sizes[:1] * left_over / self._sizes
        kept = torch.linalg.vector_norm(gains, dim=0) > least
        if bool(kept.all()):
            return gains, solution
        return gains * kept, self._solved(gains * kept)

    def _solved(self, gained: Tensor) -> Tensor:
        solution = (gained / self._sizes) @ self._right
        if len(self._free):
            # Of all layers with these predictions the shortest: W̃ + A Z, Z F = 0, A by least squares. No projection on
            # the row space of F: that rounds each weight at ε ‖W̃‖, which units of a small scale make larger than all
            # other weights; an A that is rounded leaves the predictions as they are. The largest rows come first, as
            # QR rounds each row by its own size then.
            free, own = (self._unshifted(rows / self._scales) for rows in (self._free, solution))
            order = free.square().sum(0).argsort(descending=True)
            solution = solution - torch.linalg.lstsq(free[:, order].T, own[:, order].T).solution.T @ self._free
            # Z F is 0 to rounding only: what W̃ F − Y has of it, minimised once more.
            basis = torch.cat([self.class_basis, self._rest_basis])
            if len(solution) > MOST_TOGETHER:  # not through (C, C)
                along = solution @ (self._factor.T @ basis) - gained
            else:
                along = solution @ self._factor.T @ basis - gained
            solution = solution - (along / self._sizes) @ self._right
        return solution / self._scales

    def _terms(self, layer: Tensor) -> tuple[Tensor, Tensor]:
        """½ tr{W̃ (Σ̃_W + λI) W̃ᵀ} and ½ Σ_c π_c ‖W̃ μ̃_c − e_c‖² of a layer of features less `shift`."""
        centered = LinearClassifier(layer[:, :-1], layer[:, -1]) if self._bias else LinearClassifier(layer)
        fit = class_mean_fit(self._centered, centered, self.class_basis)
        return (layer @ self._rest.T).square().sum() / 2, fit.squares / 2

    def _unshifted(self, layers: Tensor) -> Tensor:
        """[W, b] of [W, b + W shift]."""
        if not self._bias:
            return layers
        return torch.cat([layers[:, :-1], layers[:, -1:] - layers[:, :-1] @ self._shift[:, None]], 1)

    def minimizer(self) -> LinearClassifier:
        """W̃_LS of least ‖W̃‖_F."""
        solution = self._unshifted(self._fitted[1])
        return LinearClassifier(solution[:, :-1], solution[:, -1]) if self._bias else LinearClassifier(solution)

    def least_terms(self, optimum: LinearClassifier) -> tuple[Tensor, Tensor]:
        """L_NC1 and L_NC2/3 of the minimiser."""
        return self._terms(self._fitted[1])

    def distance(self, classifier: LinearClassifier, fit: ClassMeanFit) -> Tensor:
        """L^⊥_LS of a layer with this fit to the class means on `class_basis`."""
        bias = [] if classifier.bias is None else [classifier.bias[:, None]]
        along = fit.on_basis + (torch.cat([classifier.weight, *bias], 1) @ self._rest.T) @ self._rest_basis
        along = along + (self._roots[:, None] * self.class_basis - self._fitted[0])
        return along.square().sum() / 2


def _span_and_rest(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of the span of the columns and of its complement; of rows of any size, the largest first."""
    order, basis = columns.square().sum(1).argsort(descending=True), torch.eye(len(columns)).to(columns)
    if columns.shape[1]:
        basis[order] = torch.linalg.qr(columns[order], mode="complete").Q
    return basis[:, : columns.shape[1]], basis[:, columns.shape[1] :]
