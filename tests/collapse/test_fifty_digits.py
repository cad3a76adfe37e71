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
from last_layer_oracle import check_catalogue, yielded
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
        rows, n = mpmath.matrix(self.features.double().tolist()), len(self.labels)
        counts = [int(count) for count in self.labels.bincount()]
        self.shares = [mpf(count) / n for count in counts]
        onto = mpmath.zeros(self.num_classes, n)
        for place, label in enumerate(self.labels.tolist()):
            onto[label, place] = mpf(1) / counts[label]
        self.means = onto * rows
        deviations = rows.copy()
        for place, label in enumerate(self.labels.tolist()):
            deviations[place, :] = rows[place, :] - self.means[label, :]
        self.within = deviations.T * deviations / n
        self.variances = [mpf(0)] * self.num_classes
        for place, label in enumerate(self.labels.tolist()):
            self.variances[label] += norm(deviations[place, :]) ** 2 / counts[label]
        self.pi = mpmath.diag(self.shares)
        self.global_mean = mpmath.matrix([self.shares]) * self.means
        self.centered = centered(self.means, self.global_mean)
        self.between = self.centered.T * self.pi * self.centered
        # ρ², a bound on it, and the class means' own rounding, as determined_range.py has them.
        width, eps = self.num_features, mpf(self.statistics.feature_eps)
        largest = [max(abs(self.means[c, i]) for c in range(self.num_classes)) for i in range(width)]
        self.sizes = [mpmath.sqrt(self.within[i, i] + largest[i] ** 2) for i in range(width)]
        unit = max(eps, n * EPSILON)
        self.rho = [
            4 * width * (unit * self.sizes[i]) ** 2 + 100 * width**2 * EPSILON * self.within[i, i] for i in range(width)
        ]
        self.mean_rounding = max(eps, max(width, self.num_classes) * EPSILON) * norm(self.sizes)

    def fitted(self, weight_ridge: list[mpf], bias_ridge: mpf) -> tuple[mpmath.matrix, mpf, mpf, mpf]:
        """The best layer with a penalty for each unit, its mean squared error ½ Ave, and that within and between."""
        width = self.num_features + self.bias
        moments, target = mpmath.zeros(width), self.pi * self.extended_means()
        total = self.within + self.between + self.global_mean.T * self.global_mean
        for i in range(self.num_features):
            for j in range(self.num_features):
                moments[i, j] = total[i, j]
            moments[i, i] += weight_ridge[i]
            if self.bias:
                moments[i, width - 1] = moments[width - 1, i] = self.global_mean[i]
        if self.bias:
            moments[width - 1, width - 1] = 1 + bias_ridge
        layer = target * mpmath.inverse(moments)
        return layer, *self.losses(layer)

    def extended_means(self) -> mpmath.matrix:
        wide = mpmath.ones(self.num_classes, self.num_features + self.bias)
        wide[:, : self.num_features] = self.means
        return wide

    def losses(self, layer: mpmath.matrix) -> tuple[mpf, mpf, mpf]:
        """½ Ave ‖W̃h̃ − y‖², its part within classes, that of the class means."""
        spread, short = mpf(0), mpf(0)
        for c, row in enumerate(layer.tolist()):
            spread += self.covariance_of(row, row) / 2
            misses = [value - (place == c) for place, value in enumerate(self.at_means(row))]
            short += mpmath.fdot(self.shares, [miss**2 for miss in misses]) / 2
        return spread + short, spread, short

    @cached_property
    def found(self) -> dict[str, float]:
        """What is measured, by the catalogue's names."""
        return yielded(self.statistics, self.layer, self.ridge)

    def measured(self, family: str) -> SimpleNamespace:
        """The numbers of one family, by their own names."""
        own = {name.partition("/")[2]: value for name, value in self.found.items() if name.startswith(f"{family}/")}
        return SimpleNamespace(**own)

    @cached_property
    def within_rows(self) -> list[list[mpf]]:
        return self.within.tolist()

    @cached_property
    def mean_rows(self) -> list[list[mpf]]:
        return self.extended_means().tolist()

    def covariance_of(self, one: list[mpf], other: list[mpf]) -> mpf:
        """wᵀ Σ_W v of two rows [w, b], [v, a]."""
        width = self.num_features
        return mpmath.fdot([mpmath.fdot(row, other[:width]) for row in self.within_rows], one[:width])

    def at_means(self, row: list[mpf]) -> list[mpf]:
        """⟨w, μ_c⟩ + b of each class."""
        return [mpmath.fdot(row, mean) for mean in self.mean_rows]

    def distance(self, one: mpmath.matrix, other: mpmath.matrix) -> mpf:
        """½ Ave ‖(A − B) h̃‖²."""
        return self.inner(one - other, one - other) / 2

    def inner(self, one: mpmath.matrix, other: mpmath.matrix) -> mpf:
        """Ave ⟨A h̃, B h̃⟩."""
        rows = list(zip(one.tolist(), other.tolist(), strict=True))
        spread = mpmath.fsum(self.covariance_of(*pair) for pair in rows)
        at_means = [zip(self.shares, self.at_means(a), self.at_means(b), strict=True) for a, b in rows]
        return spread + mpmath.fsum(share * x * y for row in at_means for share, x, y in row)

    def own_layer(self) -> mpmath.matrix:
        wide = torch.cat([self.layer.weight, self.layer.bias[:, None]], 1) if self.bias else self.layer.weight
        return mpmath.matrix(wide.tolist())

    @lru_cache(maxsize=2)  # noqa: B019 - a case lives as long as its comparison
    def correlation_condition(self, ridge: mpf) -> mpf:
        """λ_max/λ_min of the correlation form of Σ_W + λI; infinite where it is singular."""
        ridged = self.within + ridge * mpmath.eye(self.num_features)
        roots = [mpmath.sqrt(ridged[i, i]) for i in range(self.num_features)]
        if min(roots) == 0:
            return mpmath.inf
        values = eigenvalues(scaled(ridged, roots))
        return values[-1] / values[0] if values[0] > 0 else mpmath.inf

    @cached_property
    def least_variance(self) -> mpf:
        """The least variance in units of rounding: above 1 nothing is left out."""
        roots = [mpmath.sqrt(rho) for rho in self.rho]
        return eigenvalues(scaled(self.within, roots))[0] if min(roots) > 0 else mpf(0)

    @cached_property
    def between_spectrum(self) -> tuple[mpmath.matrix, mpmath.matrix, list[int]]:
        """Eigenvalues and eigenvectors of Σ_B, and their order, the largest first."""
        values, vectors = mpmath.eigsy(self.between) if self.num_features > 1 else (self.between, mpmath.eye(1))
        return values, vectors, sorted(range(self.num_features), key=lambda j: -values[j])

    def resolution(self) -> float:
        """Relative error of a deviation that sums in float64 leave."""
        smallest = min(self.within[i, i] for i in range(self.num_features))
        return float(100 * EPSILON * max(self.sizes) / mpmath.sqrt(smallest)) if smallest > 0 else math.inf


def norm(entries: object) -> mpf:
    return mpmath.norm(mpmath.matrix(entries), 2) if not isinstance(entries, mpmath.matrix) else mpmath.norm(entries, 2)


def centered(rows: mpmath.matrix, center: mpmath.matrix) -> mpmath.matrix:
    moved = rows.copy()
    for c in range(rows.rows):
        moved[c, :] = rows[c, :] - center
    return moved


def scaled(matrix: mpmath.matrix, roots: list[mpf]) -> mpmath.matrix:
    inverse = mpmath.diag([1 / root for root in roots])
    return inverse * matrix * inverse


def eigenvalues(matrix: mpmath.matrix) -> list[mpf]:
    return sorted(mpmath.eigsy(matrix, eigvals_only=True)) if matrix.rows > 1 else [matrix[0, 0]]


def near(value: float, expected: mpf, rel: float, absolute: float = 0.0) -> bool:
    return abs(value - float(expected)) <= rel * abs(float(expected)) + absolute


def check_decomposition(case: Case) -> None:
    """All fourteen numbers, and those of the distance to the path."""
    ridges = case.ridge if isinstance(case.ridge, tuple) else (case.ridge, case.ridge)
    measured = case.measured("mse")
    own, width = case.own_layer(), case.num_features
    data, _, _ = case.losses(own)
    squares = norm(own[:, :width]) ** 2, norm(own[:, width]) ** 2 if case.bias else mpf(0)
    decay = (ridges[0] * squares[0] + ridges[1] * squares[1]) / 2
    # What float64 leaves of W h, of this layer and, below, of the best.
    products = float(norm(own[:, :width] * mpmath.diag(case.sizes)) * len(case.labels) * EPSILON)
    assert near(measured.loss_data, data, 1e-10, products**2)
    assert near(measured.loss_decay, decay, 1e-12)
    assert near(measured.loss, data + decay, 1e-10, products**2)
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


def check_terms(case: Case, measured: object, own: mpmath.matrix, ridges: tuple[float, float], rel: float) -> None:
    best, loss, spread, short = case.fitted([mpf(ridges[0])] * case.num_features, mpf(ridges[1]))

    def penalty(layer: mpmath.matrix) -> mpf:
        of_bias = norm(layer[:, case.num_features]) ** 2 if case.bias else mpf(0)
        return (ridges[0] * norm(layer[:, : case.num_features]) ** 2 + ridges[1] * of_bias) / 2

    expected = {
        "loss_ls": loss + penalty(best),
        "loss_ls_data": loss,
        "loss_ls_decay": penalty(best),
        "loss_nc1": spread + penalty(best),
        "loss_nc1_data": spread,
        "loss_nc1_decay": penalty(best),
        "loss_nc23": short,
        "loss_ls_perp": case.distance(own, best) + penalty(own - best),
        "loss_ls_perp_data": case.distance(own, best),
        "loss_ls_perp_decay": penalty(own - best),
    }
    for name, value in expected.items():
        assert near(vars(measured)[name], value, rel, 1e-28), name
        case.compared.add(f"mse/{name}")
    distance = case.measured("path")
    assert near(distance.perp_share, expected["loss_ls_perp"] / (expected["loss_ls"] + expected["loss_ls_perp"]), rel)
    assert near(distance.classifier_distance, norm_f(own - best) / norm_f(best), 1e3 * rel)
    cosine = case.inner(own, best) / mpmath.sqrt(case.inner(own, own) * case.inner(best, best))
    angle = mpmath.degrees(mpmath.acos(max(-1, min(1, cosine))))
    assert near(distance.prediction_angle, angle, 0.0, 1e5 * rel)
    case.compared |= {"path/perp_share", "path/classifier_distance", "path/prediction_angle"}


def norm_f(matrix: mpmath.matrix) -> mpf:
    return mpmath.sqrt(mpmath.fsum(entry**2 for entry in matrix))


def check_bounds(case: Case, measured: object, own: mpmath.matrix, bias_ridge: mpf) -> None:
    """λ_W = 0 where rounding may decide: the data parts between two bounds. A free bias, so that L is all data."""
    if bias_ridge > 0 and case.bias:
        return
    least = case.fitted([mpf(10) ** -50 * (1 + size**2) for size in case.sizes], mpf(10) ** -50)
    fitted = case.fitted([rho + mpf(10) ** -50 for rho in case.rho], mpf(10) ** -50)

    def moved(layer: mpmath.matrix) -> mpf:
        return norm_f(layer[:, : case.num_features] * mpmath.diag([mpmath.sqrt(rho) for rho in case.rho]))

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


def check_collapse(case: Case) -> None:
    """NC1 to NC3 and the spectrum, where the features determine them; else nan, or on the range that they determine."""
    measured = case.measured("collapse")
    num_classes, width = case.num_classes, case.num_features
    values, _, order = case.between_spectrum
    sizes = [mpmath.sqrt(max(values[j], 0)) for j in order[: min(num_classes - 1, width)]]
    certain, possible = (sum(size > factor * case.mean_rounding for size in sizes) for factor in (2, mpf(1) / 100))
    assert certain <= measured.rank_means <= possible
    case.compared.add("collapse/rank_means")
    check_variability(case, measured, sizes, certain == possible)


def check_variability(case: Case, measured: object, sizes: list[mpf], certain: bool) -> None:
    rank, num_classes = int(measured.rank_means), case.num_classes
    # Of a small direction the square, from sums that know the largest.
    rel = DIGITS + 100 * min(case.resolution(), 1.0)
    if rank and certain:
        rel += float(1000 * EPSILON * (norm(case.sizes) / sizes[rank - 1]) ** 2)
        values, vectors, order = case.between_spectrum
        shares = [(vectors[:, j].T * case.within * vectors[:, j])[0] / values[j] for j in order[:rank]]
        nc1 = mpmath.fsum(shares) / num_classes
        if rel < 0.1 and float(case.mean_rounding / sizes[rank - 1]) < 0.1:
            assert near(measured.nc1_trace_on_range, nc1, rel + 10 * float(case.mean_rounding / sizes[rank - 1]) ** 2)
    if certain and rank < min(num_classes - 1, case.num_features):
        live = min(size for size in case.sizes) > 0 and not math.isnan(measured.nc1_trace)
        assert not live, "nc1_trace of class means that span less"


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
                check_collapse(case)
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
