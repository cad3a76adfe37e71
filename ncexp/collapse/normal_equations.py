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

import math
from dataclasses import replace

import torch

from ncexp.collapse.class_mean_fit import ClassMeanFit, class_mean_fit
from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.determined_range import ROUND_OFF, determined_range
from ncexp.collapse.linear_classifier import LinearClassifier
from ncexp.collapse.within_variability import with_null_direction, without_null_direction


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
    """

    def __init__(self, statistics: ClassStatistics, triangle: torch.Tensor, bias_ridge: float) -> None:
        self.statistics = statistics
        self._triangle, self._bias_ridge = triangle, bias_ridge
        self._shrink = 1.0 if math.isinf(bias_ridge) else bias_ridge / (1 + bias_ridge)
        self._frequencies, self._mean = statistics.frequencies, statistics.global_mean
        self._roots = self._frequencies.sqrt()
        factor = without_null_direction(self._roots[:, None] * statistics.centered_class_means, self._roots)
        if self._shrink > 0:
            factor = torch.cat([factor, self._shrink**0.5 * self._mean[None]])
        # Tᵀ, with as many rows as classes: the decomposition of a tall matrix is several times faster than of a wide.
        whitened = torch.linalg.solve_triangular(triangle, factor.T, upper=False).T
        # One row of T short, a row of zeros makes V square and I − V Vᵀ = 0; with many more short nothing cancels.
        short = int(len(factor) == len(triangle) + 1)
        whitened = torch.nn.functional.pad(whitened, (0, short))
        right, self._scales, left = torch.linalg.svd(whitened, full_matrices=False)
        self._left, self._complete = left[:, : len(triangle)].T, len(self._scales) == len(factor)
        self._by_mean = right[-1] if self._shrink > 0 else torch.zeros_like(self._scales)
        self.class_basis = with_null_direction(right[: len(self._roots) - 1], self._roots)
        # D V without D.
        self._targets = self._roots[:, None] * self.class_basis + torch.outer(
            self._frequencies, self._shrink**0.5 * self._by_mean
        )

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
        triangle, info = torch.linalg.cholesky_ex(ridged)
        # L_jj²/N_jj is the share of feature j's variance that the features before it do not explain: where rounding
        # alone could make it up, Σ_W does not determine that direction.
        unexplained = triangle.diagonal().square() / ridged.diagonal()
        if bool(info) or not bool((unexplained > len(covariance) * ROUND_OFF).all()):
            return None
        return cls(statistics, triangle, bias_ridge)

    def freedom(self, weight: torch.Tensor) -> torch.Tensor:
        """0: nothing is left out. As of `FactoredProblem`."""
        return weight.new_zeros(())

    def minimizer(self) -> LinearClassifier:
        """W̃_LS."""
        rotated = (self._targets * (self._scales / (1 + self._scales.square()))) @ self._left.T
        weight = torch.linalg.solve_triangular(self._triangle, rotated, upper=False, left=False)
        if math.isinf(self._bias_ridge):
            return LinearClassifier(weight)
        return LinearClassifier(weight, (1 - self._shrink) * (self._frequencies - weight @ self._mean))

    def least_terms(self, optimum: LinearClassifier) -> tuple[torch.Tensor, torch.Tensor]:
        """L_NC1 and L_NC2/3 of the minimiser."""
        left_over = self._targets / (1 + self._scales.square())
        if self._complete:
            at_mean = left_over @ self._by_mean
            squares = (left_over @ self.class_basis.T).square().sum()
        else:
            kept = self._scales.square() / (1 + self._scales.square())
            at_mean = self._shrink**0.5 * self._frequencies - self._targets @ (kept * self._by_mean)
            # ‖D‖² = 1 − ‖π‖² + β ‖π‖², less what V has of it.
            beyond = 1 - (1 - self._shrink) * self._frequencies.square().sum() - self._targets.square().sum()
            squares = left_over.square().sum() + beyond - at_mean.square().sum()
        return self.spread_and_penalty(optimum), (squares + self._shrink * at_mean.square().sum()) / 2

    def spread_and_penalty(self, classifier: LinearClassifier) -> torch.Tensor:
        """½ tr{W̃ (Σ̃_W + λI) W̃ᵀ}."""
        total = (classifier.weight @ self._triangle).square().sum()
        if classifier.bias is not None:
            total = total + self._bias_ridge * classifier.bias.square().sum()
        return total / 2

    def distance(self, classifier: LinearClassifier, fit: ClassMeanFit) -> torch.Tensor:
        """L^⊥_LS of a layer with this fit to the class means on `class_basis`."""
        lost_to_bias = fit.at_mean.new_zeros(())
        without_bias = fit.at_mean
        if classifier.bias is not None:
            without_bias = fit.at_mean - classifier.bias
            gradient = fit.at_mean + self._bias_ridge * classifier.bias
            lost_to_bias = gradient.square().sum() / (1 + self._bias_ridge)
        # (W [L_N, G] − [0, D]) [U; V diag(s)]: the part on centred class means and global mean, then that on features.
        centered = fit.on_basis - torch.outer(fit.at_mean, self._roots @ self.class_basis)
        on_means = centered + self._shrink**0.5 * torch.outer(without_bias, self._by_mean)
        whitened = classifier.weight @ self._triangle
        along = whitened @ self._left
        lost = ((along + on_means * self._scales) / (1 + self._scales.square()).sqrt()).square().sum()
        beyond = (whitened - along @ self._left.T).square().sum()
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
        deviations = known.covariance_factor()
        extents = statistics.centered_class_means.abs().amax(0)
        scales = torch.hypot(statistics.within_class_covariance.diagonal().sqrt(), extents)
        scales[~known.units] = 1.0
        if bias:
            means = torch.nn.functional.pad(means, (0, 1), value=1.0)
            deviations = torch.nn.functional.pad(deviations, (0, 1))
            scales = torch.nn.functional.pad(scales, (0, 1), value=1.0)
        ridge = torch.full((means.shape[1],), weight_ridge, dtype=means.dtype, device=means.device)
        if bias:
            ridge[-1] = bias_ridge
        self._bias, self._rest = bias, torch.cat([deviations, torch.diag(ridge.sqrt())])
        factor = torch.cat([self._roots[:, None] * means, self._rest]) / scales
        left, sizes, right = torch.linalg.svd(factor, full_matrices=False)
        certain = sizes > max(factor.shape) * ROUND_OFF * sizes[0]
        self.class_basis, self._rest_basis = left[: len(means), certain], left[len(means) :, certain]
        self._sizes, self._right, self._scales = sizes[certain], right[certain], scales

    def minimizer(self) -> LinearClassifier:
        """W̃_LS of least ‖W̃‖_F."""
        # Y has entries in the classes' places only, so only those rows of the basis meet it.
        targets = self._roots[:, None] * self.class_basis
        solution = (targets / self._sizes) @ self._right / self._scales
        # Of all layers with these predictions the shortest lies in the row space of F.
        row_space = torch.linalg.qr((self._right * self._scales).T).Q
        solution = (solution @ row_space) @ row_space.T
        return LinearClassifier(solution[:, :-1], solution[:, -1]) if self._bias else LinearClassifier(solution)

    def least_terms(self, optimum: LinearClassifier) -> tuple[torch.Tensor, torch.Tensor]:
        """L_NC1 and L_NC2/3 of the minimiser."""
        best_fit = class_mean_fit(self.statistics, optimum, self.class_basis)
        return self.spread_and_penalty(optimum), best_fit.squares / 2

    def spread_and_penalty(self, classifier: LinearClassifier) -> torch.Tensor:
        """½ tr{W̃ (Σ̃_W + λI) W̃ᵀ}, Σ_W within the determined range."""
        return (_extended(classifier) @ self._rest.T).square().sum() / 2

    def distance(self, classifier: LinearClassifier, fit: ClassMeanFit) -> torch.Tensor:
        """L^⊥_LS of a layer with this fit to the class means on `class_basis`."""
        along = fit.on_basis + (_extended(classifier) @ self._rest.T) @ self._rest_basis
        return along.square().sum() / 2


def _extended(classifier: LinearClassifier) -> torch.Tensor:
    """W̃ = [W, b], or W where there is no bias."""
    if classifier.bias is None:
        return classifier.weight
    return torch.cat([classifier.weight, classifier.bias[:, None]], 1)
