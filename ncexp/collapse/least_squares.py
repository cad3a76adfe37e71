"""The MSE decomposition (HPD22 Prop. 1, Thm. 1 and Thm. 2): the optimal last layer, and what a last layer loses to it.

Objective: L(W, b) = ½ Ave_i ‖W h_i + b − y_i‖² + (λ_W/2) ‖W‖_F² + (λ_b/2) ‖b‖², y_i one-hot. The ½ and the sum over the
classes belong to it. HPD22 has λ_W = λ_b = λ: then with h̃ = [h; 1], W̃ = [W, b], and class frequencies π_c,

    W̃_LS = diag(π) M̃ᵀ (Σ̃_T + μ̃_G μ̃_Gᵀ + λI)⁻¹.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields

import torch

from ncexp.collapse.class_mean_fit import class_mean_fit
from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.linear_classifier import LinearClassifier
from ncexp.collapse.neural_collapse import require_same_shape
from ncexp.collapse.normal_equations import FactoredProblem, WhitenedProblem

Ridge = float | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class MSEDecomposition:
    """L = L_NC1 + L_NC2/3 + L_LS^⊥ (HPD22 Prop. 1, Thm. 1, Thm. 2), each with the ½ and in the units of L."""

    loss: float
    """L of the classifier, from its definition and from nothing below."""
    loss_ls: float
    """L_LS = L_NC1 + L_NC2/3, the least that any last layer could reach on these features."""
    loss_nc1: float
    """L_NC1 = ½ tr{W̃_LS (Σ̃_W + λI) W̃_LSᵀ}: variability that the best layer cannot ignore, and the penalty."""
    loss_nc23: float
    """L_NC2/3 = ½ Σ_c π_c ‖W̃_LS μ̃_c − e_c‖²: class means that the best layer cannot send to the one-hot corners."""
    loss_ls_perp: float
    """L_LS^⊥ = ½ tr{(W̃ − W̃_LS)(Σ̃_T + μ̃_G μ̃_Gᵀ + λI)(W̃ − W̃_LS)ᵀ}: how far the layer is from the central path."""

    @property
    def residual(self) -> float:
        """|L − (L_NC1 + L_NC2/3 + L_LS^⊥)| / L, 0 where L is 0: a live check, as L is computed apart from the three.

        Below 1e-12 where Σ_W + λ_W I is well conditioned, as deep as collapse goes; more tells that λ = 0 and Σ_W is
        all but singular, or that L itself is nothing but rounding (1e-20 and less).
        """
        gap = abs(self.loss - math.fsum((self.loss_nc1, self.loss_nc23, self.loss_ls_perp)))
        return gap / self.loss if gap else 0.0


def ridge_from_weight_decay(weight_decay: float, loss_scale: float) -> float:
    """λ = wd/s, the ridge of the objective that training with coupled weight decay really has.

    A training loss s · ½ Ave ‖·‖² and an optimizer that adds wd·θ to the gradient (SGD, Adam; not AdamW) descend
    s · (½ Ave ‖·‖² + (λ/2) ‖θ‖²). HPD22's loss has s = 1; `torch.nn.MSELoss()` averages over the C outputs as well, so
    s = 2/C. Decoupled decay (AdamW) minimises no such objective: use ridge 0 there. A bias that is not decayed has
    ridge (λ, 0.0).

    Raises:
        ValueError: a weight decay below 0 or not finite, a loss scale not above 0 or not finite.

    >>> ridge_from_weight_decay(5e-4, loss_scale=2 / 10)
    0.0025
    """
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"weight_decay: expected a finite number >= 0, got {weight_decay}. Pass the optimizer's value."
        )
    if not 0 < loss_scale < math.inf:
        raise ValueError(f"loss_scale: expected a finite number > 0, got {loss_scale}. Pass s of s · ½ Ave ‖·‖².")
    return weight_decay / loss_scale


def least_squares_classifier(statistics: ClassStatistics, ridge: Ridge, bias: bool = True) -> LinearClassifier:
    """W̃_LS, the last layer that minimises L for these features (HPD22 Prop. 1); any class sizes.

    At ridge 0 with features whose second moments are singular, it is the minimiser of least ‖[W, b]‖_F on the
    directions that the statistics determine: an eigenvalue of Σ_W, brought to unit diagonal, counts from P·ε of the
    largest, and a singular value of the factor F from max(F.shape)·ε of the largest, ε = 2.2e-16.

    Args:
        statistics: of the features that the layer reads.
        ridge: λ >= 0 for weight and bias alike, or (λ_W, λ_b); see `ridge_from_weight_decay`.
        bias: False for a layer without bias; λ_b is then of no account.

    Raises:
        ValueError: a ridge that is negative or not finite; features too large to be squared in float64.
    """
    ridges = _ridges(ridge)
    if not _has_finite_moments(statistics):
        raise ValueError("statistics: expected finite second moments, got an overflow. The training has diverged.")
    return _problem(statistics, ridges, bias).minimizer()


def decompose_mse(statistics: ClassStatistics, classifier: LinearClassifier, ridge: Ridge) -> MSEDecomposition:
    """The loss of a last layer, split into L_NC1 + L_NC2/3 + L_LS^⊥ (HPD22 Prop. 1, Thm. 1, Thm. 2).

    With train statistics it says how far training is from the central path. With test statistics and the same trained
    classifier it splits the test loss: L_LS is then what a last layer fitted to the test features would leave, a
    property of the features alone, and L_LS^⊥ all that the trained layer loses to it, be it by stopping short of its
    own optimum or because that optimum is another one: the identity holds only about the optimum of the statistics at
    hand. Use ridge 0 for the plain test loss, the train ridge to compare term by term.

    Args:
        statistics: of the features that the layer reads.
        classifier: W̃; with bias None the decomposition is that of layers without bias.
        ridge: as for `least_squares_classifier`.

    Returns:
        Five floats; all nan where the features are too large to be squared in float64 (about 1e150), so that a run that
        diverges can still be recorded.

    Raises:
        ValueError: a ridge that is negative or not finite, or a classifier of another C or P than the statistics.
    """
    require_same_shape(statistics, classifier)
    classifier = classifier.to(statistics.class_means.device)
    ridges = _ridges(ridge)
    if not _has_finite_moments(statistics):
        return MSEDecomposition(**dict.fromkeys((field.name for field in fields(MSEDecomposition)), math.nan))
    problem = _problem(statistics, ridges, bias=classifier.bias is not None)
    optimum = problem.minimizer()
    fit = class_mean_fit(statistics, classifier, problem.class_basis)
    best_fit = class_mean_fit(statistics, optimum, problem.class_basis)
    nc1, nc23 = _spread_and_penalty(statistics, optimum, ridges), best_fit.squares / 2
    loss = _spread_and_penalty(statistics, classifier, ridges) + fit.squares / 2
    loss, nc1, nc23, perp = torch.stack([loss, nc1, nc23, problem.distance(classifier, fit)]).tolist()
    return MSEDecomposition(loss=loss, loss_ls=nc1 + nc23, loss_nc1=nc1, loss_nc23=nc23, loss_ls_perp=perp)


def _ridges(ridge: Ridge) -> tuple[float, float]:
    pair = ridge if isinstance(ridge, tuple) else (ridge, ridge)
    if len(pair) != 2 or not all(0 <= value < math.inf for value in pair):
        raise ValueError(
            f"ridge: expected a finite number >= 0, or a pair (weight, bias) of them, got {ridge}. "
            "Derive it from the optimizer with ridge_from_weight_decay."
        )
    return pair


def _has_finite_moments(statistics: ClassStatistics) -> bool:
    return bool(statistics.total_covariance.isfinite().all() & statistics.global_mean.square().isfinite().all())


# One look asks for the same problem several times: at the trained λ and at λ = 0, and each costs a factorisation.
@functools.lru_cache(maxsize=2)
def _problem(statistics: ClassStatistics, ridges: tuple[float, float], bias: bool) -> WhitenedProblem | FactoredProblem:
    weight_ridge, bias_ridge = ridges
    regular = WhitenedProblem.build(statistics, weight_ridge, bias_ridge if bias else math.inf)
    return regular if regular is not None else FactoredProblem(statistics, weight_ridge, bias_ridge, bias)


def _spread_and_penalty(
    statistics: ClassStatistics, classifier: LinearClassifier, ridges: tuple[float, float]
) -> torch.Tensor:
    """½ tr{W̃ (Σ̃_W + λI) W̃ᵀ}: with ½ Σ_c π_c ‖W̃ μ̃_c − e_c‖² it makes L, as W̃ h̃ spreads about W̃ μ̃_c."""
    weight = classifier.weight
    total = ((weight @ statistics.within_class_covariance) * weight).sum() + ridges[0] * weight.square().sum()
    if classifier.bias is not None:
        total = total + ridges[1] * classifier.bias.square().sum()
    return total / 2
