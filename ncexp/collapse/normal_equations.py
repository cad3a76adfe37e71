"""The second-moment matrix of the least-squares problem, in factored form: its minimiser, and distance to it.

With h̃ = [h; 1] and W̃ = [W, b], the deviations of h̃ from its class means have no bias part, so that for any W̃

    L(W̃) = ½ ‖W̃ F − Y‖_F²,   F = [ Σ_W^{1/2}  M diag(√π)  diag(√λ) ]      Y = [ 0  diag(√π)  0 ],
                                   [ 0          √πᵀ                  ]

F Fᵀ = Σ̃_T + μ̃_G μ̃_Gᵀ + λI. Hence W̃_LS = Y F^†, and by Pythagoras L^⊥_LS = ½ ‖(W̃ F − Y) Q‖_F² with Q an orthonormal
basis of the row space of F: the distance needs the residual W̃ F − Y only, which stays accurate where W̃ and W̃_LS agree
to many digits. (W̃ F − Y) Fᵀ is the gradient of L, so this is ½ tr{g (F Fᵀ)⁻¹ gᵀ}, and ½ tr{Δ F Fᵀ Δᵀ} of HPD22 Thm. 2
with Δ = W̃ − W̃_LS = g (F Fᵀ)⁻¹. Neither class below squares the ratio of class means to deviations; in deep collapse
that is what would be lost first.
"""

from __future__ import annotations

import math

import torch

from ncexp.collapse.class_mean_fit import ClassMeanFit
from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.linear_classifier import LinearClassifier

_ROUND_OFF = torch.finfo(torch.float64).eps


class WhitenedProblem:
    """The problem where N = Σ_W + λ_W I is safely positive definite: bias eliminated, features whitened by N.

    The best bias for W is b*(W) = (1 − β)(π − W μ_G), β = λ_b/(1 + λ_b): 0 for a free bias, 1 for none. What is left is

        L(W, b) = ½ ‖W [L_N, G] − [0, D]‖_F² + ½ (1 + λ_b) ‖b − b*(W)‖²,    N = L_N L_Nᵀ,
        G = [M̄ diag(√π), √β μ_G]   (P, C+1),        D = [diag(√π) − π√πᵀ, √β π]   (C, C+1).

    With T = L_N^{-1} G = U diag(s) Vᵀ the minimiser is W = D V diag(s/(1 + s²)) Uᵀ L_N^{-1}, and the row space of
    [L_N, G] = L_N [I, T] has the basis [U; V diag(s)] diag(1/√(1 + s²)), and [U_⊥; 0] where T has not full row rank.
    """

    def __init__(self, statistics: ClassStatistics, triangle: torch.Tensor, bias_ridge: float) -> None:
        self._triangle, self._bias_ridge = triangle, bias_ridge
        self._shrink = 1.0 if math.isinf(bias_ridge) else bias_ridge / (1 + bias_ridge)
        self._frequencies, self._mean = statistics.frequencies, statistics.global_mean
        self._roots = self._frequencies.sqrt()
        factor = torch.cat(
            [self._roots[:, None] * statistics.centered_class_means, self._shrink**0.5 * self._mean[None]]
        )
        whitened = torch.linalg.solve_triangular(triangle, factor.T, upper=False)
        self._left, self._scales, right = torch.linalg.svd(whitened, full_matrices=False)
        self.class_basis, self._by_mean = right[:, :-1].T, right[:, -1]

    @classmethod
    def build(cls, statistics: ClassStatistics, weight_ridge: float, bias_ridge: float) -> WhitenedProblem | None:
        """The problem, or None where N is not safely positive definite; bias_ridge inf is a layer without bias."""
        covariance = statistics.within_class_covariance
        identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        ridged = covariance + weight_ridge * identity
        triangle, info = torch.linalg.cholesky_ex(ridged)
        # L_jj²/N_jj is the share of feature j's variance that the features before it do not explain: where rounding
        # alone could make it up, Σ_W does not determine that direction.
        unexplained = triangle.diagonal().square() / ridged.diagonal()
        if bool(info) or not bool((unexplained > len(covariance) * _ROUND_OFF).all()):
            return None
        return cls(statistics, triangle, bias_ridge)

    def minimizer(self) -> LinearClassifier:
        """W̃_LS."""
        # D V without D.
        targets = self._roots[:, None] * self.class_basis + torch.outer(
            self._frequencies, self._shrink**0.5 * self._by_mean - self._roots @ self.class_basis
        )
        rotated = (targets * (self._scales / (1 + self._scales.square()))) @ self._left.T
        weight = torch.linalg.solve_triangular(self._triangle, rotated, upper=False, left=False)
        if math.isinf(self._bias_ridge):
            return LinearClassifier(weight)
        return LinearClassifier(weight, (1 - self._shrink) * (self._frequencies - weight @ self._mean))

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
    """The problem in general: F as it stands, its singular value decomposition, the rank that the data determine."""

    def __init__(self, statistics: ClassStatistics, weight_ridge: float, bias_ridge: float, bias: bool) -> None:
        means, self._roots = statistics.class_means, statistics.frequencies.sqrt()
        deviations = _covariance_factor(statistics.within_class_covariance)
        if bias:
            means = torch.nn.functional.pad(means, (0, 1), value=1.0)
            deviations = torch.nn.functional.pad(deviations, (0, 1))
        ridge = torch.full((means.shape[1],), weight_ridge, dtype=means.dtype, device=means.device)
        if bias:
            ridge[-1] = bias_ridge
        self._bias, self._rest = bias, torch.cat([deviations, torch.diag(ridge.sqrt())])
        factor = torch.cat([self._roots[:, None] * means, self._rest])
        left, scales, right = torch.linalg.svd(factor, full_matrices=False)
        certain = scales > max(factor.shape) * _ROUND_OFF * scales[0]
        self.class_basis, self._rest_basis = left[: len(means), certain], left[len(means) :, certain]
        self._scales, self._right = scales[certain], right[certain]

    def minimizer(self) -> LinearClassifier:
        """W̃_LS of least ‖W̃‖_F."""
        # Y has entries in the classes' places only, so only those rows of the basis meet it.
        targets = self._roots[:, None] * self.class_basis
        solution = (targets / self._scales) @ self._right
        return LinearClassifier(solution[:, :-1], solution[:, -1]) if self._bias else LinearClassifier(solution)

    def distance(self, classifier: LinearClassifier, fit: ClassMeanFit) -> torch.Tensor:
        """L^⊥_LS of a layer with this fit to the class means on `class_basis`."""
        extended = classifier.weight
        if classifier.bias is not None:
            extended = torch.cat([extended, classifier.bias[:, None]], 1)
        along = fit.on_basis + (extended @ self._rest.T) @ self._rest_basis
        return along.square().sum() / 2


def _covariance_factor(covariance: torch.Tensor) -> torch.Tensor:
    """Rows R (r, P) with RᵀR = Σ_W on its certain range, decided where each feature has unit variance."""
    deviation = covariance.diagonal().sqrt()
    scale = torch.where(deviation > 0, deviation, 1.0)
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance / scale / scale[:, None])
    certain = eigenvalues > len(eigenvalues) * _ROUND_OFF * eigenvalues[-1]
    return eigenvalues[certain].sqrt()[:, None] * eigenvectors[:, certain].T * scale
