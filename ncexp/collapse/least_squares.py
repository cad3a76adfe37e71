"""The MSE decomposition (HPD22 Prop. 1, Thm. 1 and Thm. 2): the optimal last layer, and what a last layer loses to it.

Objective: L(W, b) = ½ Ave_i ‖W h_i + b − y_i‖² + (λ_W/2) ‖W‖_F² + (λ_b/2) ‖b‖², y_i one-hot. The ½ and the sum over the
classes belong to it. HPD22 has λ_W = λ_b = λ: then with h̃ = [h; 1], W̃ = [W, b], and class frequencies π_c,

    W̃_LS = diag(π) M̃ᵀ (Σ̃_T + μ̃_G μ̃_Gᵀ + λI)⁻¹.

W̃_LS is, with a ridge, the layer of A. R. Webb and D. Lowe, "The optimised internal representation of multilayer
classifier networks performs nonlinear discriminant analysis", Neural Networks 3 (1990) 367-375.

**Data and decay.** The penalty R(W̃) = (λ_W/2) ‖W‖² + (λ_b/2) ‖b‖² stands in the terms as well. With Δ = W̃ − W̃_LS,

    term      data part                                      decay part
    L         ½ Ave ‖W̃h̃ − y‖²                                R(W̃)
    L_NC1     ½ tr{W̃_LS Σ̃_W W̃_LSᵀ}                            R(W̃_LS)          from ½ tr{W̃_LS (Σ̃_W + λI) W̃_LSᵀ}
    L_NC2/3   all of it                                      none: no λ in ½ Σ_c π_c ‖W̃_LS μ̃_c − e_c‖²
    L_LS      ½ Ave ‖W̃_LS h̃ − y‖²                             R(W̃_LS)          the sums of the two above
    L_LS^⊥    ½ tr{Δ (Σ̃_T + μ̃_G μ̃_Gᵀ) Δᵀ} = ½ Ave ‖Δh̃‖²       R(Δ)

In each row the two parts add up to the term. In each column L_LS and L_LS^⊥ do not add up to L. The data parts of L_LS
and L_LS^⊥ add up to that of L plus λ⟨Δ, W̃_LS⟩, the decay parts to that of L minus λ⟨Δ, W̃_LS⟩, because W̃_LS is
stationary: Ave⟨Δh̃, W̃_LS h̃ − y⟩ = −λ⟨Δ, W̃_LS⟩. L_NC2/3 has no decay part, but λ acts on it: it shortens W̃_LS.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ncexp.collapse.checks import check_layer
from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.linear_algebra import ROUND_OFF
from ncexp.collapse.linear_classifier import LinearClassifier
from ncexp.collapse.normal_equations import MOST_TOGETHER, FactoredProblem, WhitenedProblem, class_mean_fit

Ridge = float | tuple[float, float]
# Of L: what is allowed for a Σ_W that is all but singular in float64.
IDENTITY = 1e-9


@dataclass(frozen=True, kw_only=True)
class MSEDecomposition:
    """L = L_NC1 + L_NC2/3 + L_LS^⊥ (HPD22 Prop. 1, Thm. 1, Thm. 2), each with the ½ and in the units of L."""

    loss: float
    """L of the classifier, from its definition and from nothing below."""
    loss_ls: float
    """L_LS = L_NC1 + L_NC2/3, the least that any last layer could reach on these features. At λ = 0 that is on the
    range that the features' precision determines: never above L by more than `loss_rounding`."""
    loss_nc1: float
    """L_NC1 = ½ tr{W̃_LS (Σ̃_W + λI) W̃_LSᵀ}: variability that the best layer cannot ignore, and the penalty."""
    loss_nc23: float
    """L_NC2/3 = ½ Σ_c π_c ‖W̃_LS μ̃_c − e_c‖²: class means that the best layer cannot send to the one-hot corners."""
    loss_ls_perp: float
    """L_LS^⊥ = ½ tr{(W̃ − W̃_LS)(Σ̃_T + μ̃_G μ̃_Gᵀ + λI)(W̃ − W̃_LS)ᵀ}: how far the layer is from the central path."""
    loss_data: float
    """½ Ave ‖W̃h̃ − y‖²: the mean squared error alone, the data part of L. All parts: the table above."""
    loss_decay: float
    """(λ_W/2) ‖W‖² + (λ_b/2) ‖b‖²: the decay part of L."""
    loss_ls_data: float
    """½ Ave ‖W̃_LS h̃ − y‖²: the data part of L_LS, L_NC2/3 and the data part of L_NC1."""
    loss_ls_decay: float
    """(λ_W/2) ‖W_LS‖² + (λ_b/2) ‖b_LS‖²: the decay part of L_LS, all of it in L_NC1."""
    loss_nc1_data: float
    """½ tr{W̃_LS Σ̃_W W̃_LSᵀ}: what the spread of the features costs the best layer, the data part of L_NC1."""
    loss_nc1_decay: float
    """The same: the decay part of L_NC1."""
    loss_ls_perp_data: float
    """½ Ave ‖(W̃ − W̃_LS) h̃‖²: the data part of L_LS^⊥."""
    loss_ls_perp_decay: float
    """(λ_W/2) ‖W − W_LS‖² + (λ_b/2) ‖b − b_LS‖²: the decay part of L_LS^⊥."""
    loss_rounding: float
    """A bound on |L − (L_NC1 + L_NC2/3 + L_LS^⊥)|: 1e-9 of L, what float64 leaves of the products W h, and, of features
    that are rank deficient to their own precision ε_f, q √(2L) + ½q²: q bounds the root mean square of the layer's
    logits on their rounding (determined_range.py), about ε_f ‖W‖ ‖h‖."""

    @property
    def residual(self) -> float:
        """|L − (L_NC1 + L_NC2/3 + L_LS^⊥)| / L, 0 where L is 0: a live check, as L is computed apart from the three.

        Below 1e-12 where Σ_W + λ_W I is well conditioned, as deep as collapse goes. More, up to `loss_rounding` / L,
        means that λ = 0 and Σ_W is all but singular; that λ = 0 and features are rank deficient to their own precision,
        when the layer's part on their rounding is in L alone; or that L is nothing but rounding (1e-20 and less). Above
        that the terms are wrong.
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
    directions that the statistics determine. A direction in which both the within-class variance and the class means
    are no more than rounding, of the sums or of the features' own dtype, is not among them: determined_range.py has the
    tolerances. Where λ_W > 0 is far above that rounding, nothing is left out.

    Args:
        statistics: of the features that the layer reads.
        ridge: λ >= 0 for weight and bias alike, or (λ_W, λ_b); see `ridge_from_weight_decay`.
        bias: False for a layer without bias; λ_b is then of no account.

    Raises:
        ValueError: a ridge that is negative or not finite; features too large or too small to be squared in float64.
    """
    _require_squares(statistics)
    return _problem(statistics, ridge_pair(ridge), bias).minimizer()


def _require_squares(statistics: ClassStatistics) -> None:
    if not statistics.hold_squares:
        raise ValueError(
            "statistics: expected finite second moments, got an overflow or underflow. The training has diverged."
        )


def decompose_mse(statistics: ClassStatistics, classifier: LinearClassifier, ridge: Ridge) -> MSEDecomposition:
    """The loss of a last layer, split into L_NC1 + L_NC2/3 + L_LS^⊥ (HPD22 Prop. 1, Thm. 1, Thm. 2).

    How many digits hold: 11 of L_NC1 and L_NC2/3 where the correlation form of Σ_W (or λ_W) keeps the condition number
    below 1e3, at any depth of collapse and any offset that the statistics resolve; one less for each further factor of
    10, held up to 1e10, for float64 and float32 features, offset 0 and 1e4. These are digits for the features as they
    are given, and at full rank. At λ = 0 the terms are those on the range that the features' precision determines; see
    docs/conventions.md.

    With train statistics it says how far training is from the central path. With test statistics and the same trained
    classifier it splits the test loss: L_LS is then what a last layer fitted to the test features would leave, a
    property of the features alone, and L_LS^⊥ all that the trained layer loses to it. Use ridge 0 for the test loss
    without decay, the train ridge to compare term by term.

    Args:
        statistics: of the features that the layer reads.
        classifier: W̃; with bias None the decomposition is that of layers without bias.
        ridge: as for `least_squares_classifier`.

    Returns:
        Fourteen floats; all nan where float64 does not hold the squares of the features (from about 1e150, or below
        1e-146), so that a run that diverges can still be recorded.

    Raises:
        ValueError: a ridge that is negative or not finite; a classifier of another C or P than the statistics.
    """
    check_layer(statistics.class_means, classifier.weight)
    return _decomposed(statistics, classifier, ridge_pair(ridge))


# One evaluation asks for it twice, for its terms and for the distance to the path.
@functools.lru_cache(maxsize=2)
def _decomposed(
    statistics: ClassStatistics, classifier: LinearClassifier, ridges: tuple[float, float]
) -> MSEDecomposition:
    classifier = classifier.to(statistics.class_means.device)
    if not statistics.hold_squares:
        return MSEDecomposition(**dict.fromkeys((field.name for field in fields(MSEDecomposition)), math.nan))
    problem = _problem(statistics, ridges, classifier.bias is not None)
    optimum = problem.minimizer()
    nc1, nc23 = problem.least_terms(optimum)
    fit = class_mean_fit(problem.statistics, classifier, problem.class_basis)
    perp = problem.distance(classifier, fit)
    if problem.statistics is not statistics:
        fit = class_mean_fit(statistics, classifier, problem.class_basis)
    spread = _spread(statistics, classifier)
    loss = _with_penalty(spread, classifier, ridges) + fit.squares / 2
    slack = _rounding_of_loss(statistics, classifier) + _rounding_of_loss(statistics, optimum)
    freedom = problem.freedom(classifier.weight)
    rounding = freedom * (2 * loss).clamp(min=0).sqrt() + freedom.square() / 2 + IDENTITY * loss + slack
    loss, nc1, nc23, perp, rounding = torch.stack([loss, nc1, nc23, perp, rounding]).tolist()
    terms = {"loss": loss, "loss_ls": nc1 + nc23, "loss_nc1": nc1, "loss_nc23": nc23, "loss_ls_perp": perp}
    data = float(spread / 2 + fit.squares / 2)
    parts = _parts(terms | {"loss_data": data}, problem.statistics, classifier, optimum, ridges)
    return MSEDecomposition(**terms, **parts, loss_rounding=rounding)


def _parts(
    terms: dict[str, float],
    statistics: ClassStatistics,
    classifier: LinearClassifier,
    optimum: LinearClassifier,
    ridges: tuple[float, float],
) -> dict[str, float]:
    """Data and decay part of each term; each from its own formula, as either may be all but nothing of the sum."""
    if not any(ridges if classifier.bias is not None else ridges[:1]):  # the data part is the term, at any rank
        names = ("loss", "loss_ls", "loss_nc1", "loss_ls_perp")
        return {f"{name}_data": terms[name] for name in names} | {f"{name}_decay": 0.0 for name in names}
    delta = None if classifier.bias is None or optimum.bias is None else classifier.bias - optimum.bias
    off_path = LinearClassifier(classifier.weight - optimum.weight, delta)
    about_mean = ((off_path.weight @ statistics.total_covariance) * off_path.weight).sum()
    spread = float(_spread(statistics, optimum) / 2)
    return {
        "loss_data": terms["loss_data"],
        "loss_decay": _penalty(classifier, ridges),
        "loss_ls_data": spread + terms["loss_nc23"],
        "loss_nc1_data": spread,
        **dict.fromkeys(("loss_ls_decay", "loss_nc1_decay"), _penalty(optimum, ridges)),
        # ½ Ave ‖Δh̃‖² = ½ tr(Δ Σ_T Δᵀ) + ½ ‖Δμ̃_G‖².
        "loss_ls_perp_data": float(about_mean + off_path(statistics.global_mean).square().sum()) / 2,
        "loss_ls_perp_decay": _penalty(off_path, ridges),
    }


def _penalty(classifier: LinearClassifier, ridges: tuple[float, float]) -> float:
    """R(W̃) = (λ_W/2) ‖W‖² + (λ_b/2) ‖b‖²."""
    bias = 0.0 if classifier.bias is None else float(classifier.bias.square().sum())
    return (ridges[0] * float(classifier.weight.square().sum()) + ridges[1] * bias) / 2


def ridge_pair(ridge: Ridge) -> tuple[float, float]:
    """λ of weight and bias. Raises ValueError for what is no finite number >= 0, nor a pair of them."""
    pair = ridge if isinstance(ridge, tuple) else (ridge, ridge)
    if len(pair) != 2 or not all(0 <= value < math.inf for value in pair):
        raise ValueError(
            f"ridge: expected a finite number >= 0, or a pair (weight, bias) of them, got {ridge}. "
            "Derive it from the optimizer with ridge_from_weight_decay."
        )
    return pair


# One evaluation asks for the same problem several times: at the trained λ and at λ = 0, and each costs a factorisation.
@functools.lru_cache(maxsize=2)
def _problem(statistics: ClassStatistics, ridges: tuple[float, float], bias: bool) -> WhitenedProblem | FactoredProblem:
    weight_ridge, bias_ridge = ridges
    regular = WhitenedProblem.build(statistics, weight_ridge, bias_ridge if bias else math.inf)
    return regular if regular is not None else FactoredProblem(statistics, weight_ridge, bias_ridge, bias)


def _rounding_of_loss(statistics: ClassStatistics, classifier: LinearClassifier) -> Tensor:
    """A bound on what rounding to ε = 2⁻⁵² adds to L: P² ε Σ_i ‖w_i‖² (d_i + max_c μ_ci²), w_i column i of W."""
    moments = statistics.within_class_covariance.diagonal() + statistics.class_means.square().amax(0)
    return statistics.num_features**2 * ROUND_OFF * (classifier.weight.square() @ moments).sum()


def _spread(statistics: ClassStatistics, classifier: LinearClassifier) -> Tensor:
    """tr(W Σ_W Wᵀ)."""
    return (classifier.weight @ statistics.within_class_covariance).mul_(classifier.weight).sum()


def _with_penalty(spread: Tensor, classifier: LinearClassifier, ridges: tuple[float, float]) -> Tensor:
    """½ tr{W̃ (Σ̃_W + λI) W̃ᵀ}: with ½ Σ_c π_c ‖W̃ μ̃_c − e_c‖² it makes L, as W̃ h̃ spreads about W̃ μ̃_c."""
    total = spread + ridges[0] * classifier.weight.square().sum()
    if classifier.bias is not None:
        total = total + ridges[1] * classifier.bias.square().sum()
    return total / 2


@dataclass(frozen=True, kw_only=True)
class PathDistance:
    """Three measures, each 0 on the central path."""

    perp_share: float
    """L_LS^⊥ / L, between 0 and 1: the share of the loss that another last layer would save (HPD22 Thm. 1). Where
    rounding makes L less than L_LS + L_LS^⊥, it is the share in that sum."""
    classifier_distance: float
    """‖W̃ − W̃_LS‖_F / ‖W̃_LS‖_F, W̃ = [W, b]."""
    prediction_angle: float
    """Angle in degrees between the n×C predictions of W̃ and those of W̃_LS, as vectors: blind to their lengths."""


def distance_to_path(statistics: ClassStatistics, classifier: LinearClassifier, ridge: Ridge) -> PathDistance:
    """The last layer beside the least-squares one of the same features, both with the same λ (HPD22 section 3).

    The inner product of two layers' predictions, Ave_i ⟨A h̃_i, B h̃_i⟩ = tr(A Σ_W Bᵀ) + Σ_c π_c ⟨A μ̃_c, B μ̃_c⟩, needs
    no features. The angle of unit vectors u, v is 2 arcsin(½‖u − v‖), with all its digits where they nearly agree.

    Args:
        statistics: of the features that the layer reads.
        classifier: W̃; with bias None it is compared with the best layer without bias.
        ridge: λ, as for `least_squares_classifier`; 0 for HPD22's central path proper.

    Raises:
        ValueError: what `decompose_mse` refuses.
    """
    terms = decompose_mse(statistics, classifier, ridge)
    classifier = classifier.to(statistics.class_means.device)
    _require_squares(statistics)
    best = _extended(_problem(statistics, ridge_pair(ridge), classifier.bias is not None).minimizer())
    mine = _extended(classifier)
    total = max(terms.loss, terms.loss_ls + terms.loss_ls_perp)
    return PathDistance(
        perp_share=terms.loss_ls_perp / total if total else math.nan,
        classifier_distance=float(torch.linalg.norm(mine - best) / torch.linalg.norm(best)),
        prediction_angle=_angle(statistics, mine, best),
    )


def _extended(classifier: LinearClassifier) -> Tensor:
    """W̃ = [W, b], (C, P+1)."""
    bias = classifier.weight.new_zeros(classifier.num_classes) if classifier.bias is None else classifier.bias
    return torch.cat([classifier.weight, bias[:, None]], dim=1)


def _angle(statistics: ClassStatistics, one: Tensor, other: Tensor) -> float:
    frequencies, triangle = statistics.frequencies, None
    if statistics.num_classes > MOST_TOGETHER:
        # Σ_c π_c ‖W μ_c + b‖² = ‖W Rᵀ‖² + ‖W μ_G + b‖², R (P, P) the triangle of the centred class means' factor: the
        # C×C predictions would be gigabytes.
        rows = statistics.centered_class_means.mul_(frequencies.sqrt()[:, None])
        triangle = torch.linalg.qr(rows, mode="r").R
        del rows

    def norm(layer: Tensor) -> Tensor:
        """(Ave_i ‖W̃ h̃_i‖²)^½."""
        weight, bias = layer[:, :-1], layer[:, -1]
        within = (weight @ statistics.within_class_covariance).mul_(weight).sum()
        if triangle is not None:
            at_mean = weight @ statistics.global_mean + bias
            return (within + (weight @ triangle.T).square_().sum() + at_mean.square().sum()).sqrt()
        at_means = statistics.class_means @ weight.T + bias
        return (within + (frequencies[:, None] * at_means.square()).sum()).sqrt()

    lengths = norm(one), norm(other)
    if not all(bool(length > 0) for length in lengths):
        return math.nan  # a layer that predicts 0 for everything points nowhere
    half = norm((one / lengths[0]).sub_(other / lengths[1])) / 2
    return math.degrees(2 * math.asin(min(float(half), 1.0)))
