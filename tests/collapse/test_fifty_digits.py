"""Every number of a last layer against fifty digits, on random features: dtype, class sizes, depth, rank, λ, offset.

The oracle is mpmath on the features as they are, from the definitions, with plain inverses. Where rounding of the
features decides what is measured at λ = 0, it gives two bounds instead, which coincide where rounding decides nothing:
L_LS is at least the least loss L* of any layer, and √L_LS at most √L(V) + ‖V ρ‖/√2 for every layer V, ρ the rounding of
each unit. V is the layer fitted with the penalty ½‖V ρ‖². Any part of L_LS is then within √(U − L*) of that of L*, in
roots, as a layer of loss U or less is no farther from the best one (Pythagoras).
"""

import math
import random
from collections import Counter
from functools import cached_property, lru_cache
from types import SimpleNamespace

import mpmath
import pytest
import torch
from last_layer_oracle import (
    Rows,
    check_catalogue,
    length,
    mean_of,
    minus,
    norm,
    products,
    rows_of,
    spectrum_of,
    yielded,
)
from mpmath import mpf
from support import slow

from ncexp.collapse import LinearClassifier, class_statistics
from ncexp.record.quantities import QUANTITIES

CASES, BATCH = 500, 25
FAMILIES = ("collapse", "geometry", "mse", "path")
#: Decisions of single examples, a simulation's time, and what is read off the optimizer.
NOT_OF_STATISTICS = {
    *("collapse/nearest_class_center_mismatch", "path/decision_mismatch", "path/time"),
    *("mse/ridge_weight", "mse/ridge_bias"),
    *("mse/loss_ls_span", "mse/loss_ls_spread"),  # of targets
    *(f"geometry/minimum_{name}" for name in ("excess", "outputs", "features", "weights")),  # of free features
}
EPSILON = mpf(2) ** -52
# Digits that the docstring of `decompose_mse` promises, and that one division more costs.
DIGITS = 1e-11


class Case:
    """Random features and a layer, and their statistics to fifty digits."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.dtype = draw.choice([torch.float64, torch.float32, torch.bfloat16, torch.float16])
        self.num_classes, self.num_features = draw.randint(2, 4), draw.randint(1, 5)
        rank = draw.choice([self.num_features, self.num_features, draw.randint(1, self.num_features)])
        sizes = [draw.randint(2, 8) for _ in range(self.num_classes)]
        spread = draw.choice([1.0, 0.1, 1e-2, 1e-4, 1e-6, 1e-7, 1e-9, 1e-13, 0.0])
        self.ridge = draw.choice([0.0, 0.0, 0.0, 1e-6, 1e-2, (1e-3, 0.0), (0.1, 0.5)])
        self.bias = draw.random() < 0.7
        generator = torch.Generator().manual_seed(seed)

        def gaussian(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.labels = torch.arange(self.num_classes).repeat_interleave(torch.tensor(sizes))
        inner = gaussian(self.num_classes, rank)[self.labels] + spread * gaussian(len(self.labels), rank)
        outer = inner if rank == self.num_features else inner @ gaussian(rank, self.num_features)
        offset = draw.choice([0.0, 1.0, 30.0])
        self.features = (outer * 10.0 ** draw.choice([0, 0, -3]) + offset).to(self.dtype)
        weight, size = gaussian(self.num_classes, self.num_features), 10.0 ** draw.randint(-2, 1)
        self.layer = LinearClassifier(size * weight, gaussian(self.num_classes) if self.bias else None)
        self.statistics = class_statistics(self.features, self.labels, self.num_classes)
        self.compared: set[str] = set()
        self._moments()

    def _moments(self) -> None:
        rows, labels = rows_of(self.features.double().tolist()), self.labels.tolist()
        members = [[row for row, own in zip(rows, labels, strict=True) if own == c] for c in range(self.num_classes)]
        self.shares = [mpf(len(some)) / len(rows) for some in members]
        self.means = [mean_of(some) for some in members]
        self.deviations = [minus(row, self.means[own]) for row, own in zip(rows, labels, strict=True)]
        self.variances = [mean_of([[length(minus(row, mean)) ** 2] for row in some])[0] for some, mean in
                          zip(members, self.means, strict=True)]  # fmt: skip
        self.within = mpmath.matrix(moments(self.deviations, [mpf(1) / len(rows)] * len(rows)))
        center = mean_of(rows)
        self.centered = mpmath.matrix([minus(mean, center) for mean in self.means])
        self.between = mpmath.matrix(moments(self.centered.tolist(), self.shares))
        self.examples, self.wide_means = ([[*row, mpf(1)][: self.num_features + self.bias] for row in some] for some in
                                          (rows, self.means))  # fmt: skip
        # ρ², a bound on it, and the class means' own rounding, as determined_range.py has them.
        width, eps, variances = self.num_features, mpf(self.statistics.feature_eps), self.within
        largest = [max(map(abs, column)) for column in zip(*self.means, strict=True)]
        self.sizes = [mpmath.sqrt(variances[i, i] + largest[i] ** 2) for i in range(width)]
        unit = max(eps, len(rows) * EPSILON)
        self.rho = [
            4 * width * (unit * self.sizes[i]) ** 2 + 100 * width**2 * EPSILON * variances[i, i] for i in range(width)
        ]
        self.mean_rounding = max(eps, max(width, self.num_classes) * EPSILON) * length(self.sizes)

    def fitted(self, weight_ridge: list[mpf], bias_ridge: mpf) -> tuple[Rows, mpf, mpf, mpf]:
        """The best layer with a penalty for each unit, its mean squared error ½ Ave, and that within and between."""
        penalties = mpmath.diag([*weight_ridge, bias_ridge][: self.num_features + self.bias])
        inverse = mpmath.inverse(mpmath.matrix(self.second_moments) + penalties)
        targets = [[share * entry for entry in mean] for share, mean in zip(self.shares, self.wide_means, strict=True)]
        layer = (mpmath.matrix(targets) * inverse).tolist()
        return layer, *self.losses(layer)

    @cached_property
    def second_moments(self) -> Rows:
        """Ave h̃h̃ᵀ."""
        return moments(self.examples, [mpf(1) / len(self.examples)] * len(self.examples))

    def losses(self, layer: Rows) -> tuple[mpf, mpf, mpf]:
        """½ Ave ‖W̃h̃ − y‖², its part within classes, that of the class means."""
        weight = [row[: self.num_features] for row in layer]
        spread = norm(products(weight, self.deviations)) ** 2 / len(self.deviations) / 2
        misses = [
            [(logit - (k == c)) ** 2 for c, logit in enumerate(row)]
            for k, row in enumerate(products(layer, self.wide_means))
        ]
        short = mpmath.fsum(mpmath.fdot(self.shares, row) for row in misses) / 2
        return spread + short, spread, short

    @cached_property
    def found(self) -> dict[str, float]:
        """What is measured, by the catalogue's names."""
        return yielded(self.statistics, self.layer, self.ridge)

    def measured(self, family: str) -> SimpleNamespace:
        """The numbers of one family, by their own names."""
        own = {name.partition("/")[2]: value for name, value in self.found.items() if name.startswith(f"{family}/")}
        return SimpleNamespace(**own)

    def inner(self, one: Rows, other: Rows) -> mpf:
        """Ave ⟨A h̃, B h̃⟩."""
        pairs = zip(products(one, self.examples), products(other, self.examples), strict=True)
        return mpmath.fsum(mpmath.fdot(*pair) for pair in pairs) / len(self.examples)

    def distance(self, one: Rows, other: Rows) -> mpf:
        """½ Ave ‖(A − B) h̃‖²."""
        gap = gaps(one, other)
        return self.inner(gap, gap) / 2

    def penalty(self, layer: Rows, ridges: tuple[float, float]) -> mpf:
        """(λ_W/2) ‖W‖² + (λ_b/2) ‖b‖²."""
        weights = [mpf(ridges[0])] * self.num_features + [mpf(ridges[1])] * self.bias
        return mpmath.fsum(mpmath.fdot(weights, [entry**2 for entry in row]) for row in layer) / 2

    def own_layer(self) -> Rows:
        wide = torch.cat([self.layer.weight, self.layer.bias[:, None]], 1) if self.bias else self.layer.weight
        return rows_of(wide.tolist())

    @lru_cache(maxsize=2)  # noqa: B019 - a case lives as long as its comparison
    def correlation_condition(self, ridge: mpf) -> mpf:
        """λ_max/λ_min of the correlation form of Σ_W + λI; infinite where it is singular."""
        ridged = self.within + ridge * mpmath.eye(self.num_features)
        roots = [mpmath.sqrt(ridged[i, i]) for i in range(self.num_features)]
        if min(roots) == 0:
            return mpmath.inf
        values = spectrum_of(scaled(ridged, roots))
        return values[-1] / values[0] if values[0] > 0 else mpmath.inf

    @cached_property
    def least_variance(self) -> mpf:
        """The least variance in units of rounding: above 1 nothing is left out."""
        roots = [mpmath.sqrt(rho) for rho in self.rho]
        return spectrum_of(scaled(self.within, roots))[0] if min(roots) > 0 else mpf(0)

    @cached_property
    def between_spectrum(self) -> tuple[mpmath.matrix, mpmath.matrix, list[int]]:
        """Eigenvalues and eigenvectors of Σ_B, and their order, the largest first."""
        values, vectors = mpmath.eigsy(self.between) if self.num_features > 1 else (self.between, mpmath.eye(1))
        return values, vectors, sorted(range(self.num_features), key=lambda j: -values[j])

    def resolution(self) -> float:
        """Relative error of a deviation that sums in float64 leave."""
        smallest = min(self.within[i, i] for i in range(self.num_features))
        return float(100 * EPSILON * max(self.sizes) / mpmath.sqrt(smallest)) if smallest > 0 else math.inf


def moments(rows: Rows, shares: list[mpf]) -> Rows:
    """Σ_i share_i row_iᵀ row_i."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return products([[a * share for a, share in zip(column, shares, strict=True)] for column in columns], columns)


def gaps(one: Rows, other: Rows) -> Rows:
    return [minus(a, b) for a, b in zip(one, other, strict=True)]


def scaled(matrix: mpmath.matrix, roots: list[mpf]) -> Rows:
    return [[entry / roots[i] / roots[j] for j, entry in enumerate(row)] for i, row in enumerate(matrix.tolist())]


def near(value: float, expected: mpf, rel: float, absolute: float = 0.0) -> bool:
    return abs(value - float(expected)) <= rel * abs(float(expected)) + absolute


def check_decomposition(case: Case) -> None:
    """All fourteen numbers, and those of the distance to the path."""
    ridges = case.ridge if isinstance(case.ridge, tuple) else (case.ridge, case.ridge)
    measured = case.measured("mse")
    own = case.own_layer()
    data, decay = case.losses(own)[0], case.penalty(own, ridges)
    # What float64 leaves of W h, of this layer and, below, of the best.
    sized = [[entry * size for entry, size in zip(row, case.sizes, strict=False)] for row in own]
    of_products = float(norm(sized) * len(case.labels) * EPSILON)
    assert near(measured.loss_data, data, 1e-10, of_products**2)
    assert near(measured.loss_decay, decay, 1e-12)
    assert near(measured.loss, data + decay, 1e-10, of_products**2)
    gap = abs(measured.loss - math.fsum((measured.loss_nc1, measured.loss_nc23, measured.loss_ls_perp)))
    assert gap <= measured.loss_rounding
    assert near(measured.identity_residual * measured.loss, mpf(gap), 1e-12)
    assert 0 <= case.measured("path").perp_share <= 1
    names = ("loss_data", "loss_decay", "loss", "loss_rounding", "identity_residual")
    case.compared |= {f"mse/{name}" for name in names}
    determined = ridges[0] > 0 or case.least_variance > 2
    condition = float(case.correlation_condition(mpf(ridges[0])))
    if determined and condition < 1e10 and case.resolution() < 1e-3:
        check_terms(case, measured, own, ridges, DIGITS * max(1.0, condition / 1e3) + 100 * case.resolution())
    elif ridges[0] == 0:
        check_bounds(case, measured, own, mpf(ridges[1]))


def check_terms(case: Case, measured: object, own: Rows, ridges: tuple[float, float], rel: float) -> None:
    best, loss, spread, short = case.fitted([mpf(ridges[0])] * case.num_features, mpf(ridges[1]))
    decay, off_decay = case.penalty(best, ridges), case.penalty(gaps(own, best), ridges)
    expected = {
        "loss_ls": loss + decay,
        "loss_ls_data": loss,
        "loss_ls_decay": decay,
        "loss_nc1": spread + decay,
        "loss_nc1_data": spread,
        "loss_nc1_decay": decay,
        "loss_nc23": short,
        "loss_ls_perp": case.distance(own, best) + off_decay,
        "loss_ls_perp_data": case.distance(own, best),
        "loss_ls_perp_decay": off_decay,
    }
    for name, value in expected.items():
        assert near(vars(measured)[name], value, rel, 1e-28), name
        case.compared.add(f"mse/{name}")
    distance = case.measured("path")
    assert near(distance.perp_share, expected["loss_ls_perp"] / (expected["loss_ls"] + expected["loss_ls_perp"]), rel)
    assert near(distance.classifier_distance, norm(gaps(own, best)) / norm(best), 1e3 * rel)
    cosine = case.inner(own, best) / mpmath.sqrt(case.inner(own, own) * case.inner(best, best))
    angle = mpmath.degrees(mpmath.acos(max(-1, min(1, cosine))))
    assert near(distance.prediction_angle, angle, 0.0, 1e5 * rel)
    case.compared |= {"path/perp_share", "path/classifier_distance", "path/prediction_angle"}


def check_bounds(case: Case, measured: object, own: Rows, bias_ridge: mpf) -> None:
    """λ_W = 0 where rounding may decide: the data parts between two bounds. A free bias, so that L is all data."""
    if bias_ridge > 0 and case.bias:
        return
    least = case.fitted([mpf(10) ** -50 * (1 + size**2) for size in case.sizes], mpf(10) ** -50)
    fitted = case.fitted([rho + mpf(10) ** -50 for rho in case.rho], mpf(10) ** -50)

    def moved(layer: Rows) -> mpf:
        return mpmath.sqrt(
            mpmath.fsum(entry**2 * rho for row in layer for entry, rho in zip(row, case.rho, strict=False))
        )

    floor = mpf(10) ** -14
    most = (mpmath.sqrt(fitted[1]) + moved(fitted[0])) ** 2 + floor**2
    slack = mpmath.sqrt(most - min(least[1], most)) + floor
    root = mpmath.sqrt(mpf(measured.loss_ls))
    assert root <= mpmath.sqrt(most) * (1 + mpf(DIGITS)) + floor
    # Sums in float64 move features by less than ρ as well.
    assert root >= mpmath.sqrt(least[1]) - min(slack, moved(least[0])) - floor
    for value, expected in ((measured.loss_nc1, least[2]), (measured.loss_nc23, least[3])):
        assert abs(mpmath.sqrt(mpf(value)) - mpmath.sqrt(expected)) <= 2 * slack
    gap = abs(mpmath.sqrt(mpf(measured.loss_ls_perp)) - mpmath.sqrt(case.distance(own, least[0])))
    assert gap <= 2 * slack + moved(own)


def check_rank(case: Case) -> None:
    """How many directions the class means span: those that are more than rounding for certain, to those that may be."""
    values, _, order = case.between_spectrum
    sizes = [mpmath.sqrt(max(values[j], 0)) for j in order[: min(case.num_classes - 1, case.num_features)]]
    certain, possible = (sum(size > factor * case.mean_rounding for size in sizes) for factor in (2, mpf(1) / 100))
    assert certain <= case.found["collapse/rank_means"] <= possible
    case.compared.add("collapse/rank_means")


@pytest.fixture(scope="module")
def compared() -> Counter[str]:
    """How often each number was compared."""
    return Counter()


@pytest.mark.parametrize("batch", [0, *map(slow, range(1, CASES // BATCH))])
def test_numbers_of_a_last_layer_agree_with_fifty_digits(batch, compared):
    with mpmath.workdps(60):
        for seed in range(batch * BATCH, (batch + 1) * BATCH):
            case = Case(seed)
            try:
                check_decomposition(case)
                check_rank(case)
                check_catalogue(case)
            except AssertionError as error:
                shape = f"{case.dtype}, C = {case.num_classes}, P = {case.num_features}, λ = {case.ridge}"
                raise AssertionError(f"seed {seed}: {shape}") from error
            compared.update(case.compared)


@pytest.mark.slow
def test_every_number_of_statistics_in_the_catalogue_has_been_compared(compared):
    """A number of these families without an oracle fails here, and one that no case determines."""
    rows = [row.name for row in QUANTITIES if "train" in row.splits and row.name.partition("/")[0] in FAMILIES]
    assert len(rows) > 60
    if sum(compared.values()):
        missing = [name for name in rows if name not in NOT_OF_STATISTICS and not compared[name.replace("<j>", "1")]]
        assert not missing, missing
