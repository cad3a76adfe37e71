"""Every number of a last layer against fifty digits, on random features: dtype, class sizes, depth, rank, λ, offset.

The oracle is mpmath on the features as they are, from the definitions, with plain inverses. Where rounding of the
features decides what is measured at λ = 0, it gives two bounds instead, which coincide where rounding decides nothing:
L_LS is at least the least loss L* of any layer, and √L_LS at most √L(V) + ‖V ρ‖/√2 for every layer V, ρ the rounding of
each unit. V is the layer fitted with the penalty ½‖V ρ‖². Any part of L_LS is then within √(U − L*) of that of L*, in
roots, as a layer of loss U or less is no farther from the best one (Pythagoras).
"""

import math
import random
from dataclasses import asdict
from functools import cached_property

import mpmath
import pytest
import torch
from mpmath import mpf

from ncexp.collapse import (
    LinearClassifier,
    class_statistics,
    decompose_mse,
    distance_to_path,
    measure_collapse,
    snr_spectrum,
)

CASES, BATCH = 500, 25
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
        weight = layer[:, : self.num_features]
        spread = trace(weight * self.within * weight.T) / 2
        misses = self.extended_means() * layer.T - mpmath.eye(self.num_classes)
        short = sum(share * norm(misses[c, :]) ** 2 for c, share in enumerate(self.shares)) / 2
        return spread + short, spread, short

    def distance(self, one: mpmath.matrix, other: mpmath.matrix) -> mpf:
        """½ Ave ‖(A − B) h̃‖²."""
        gap = one - other
        weight = gap[:, : self.num_features]
        at_means = self.extended_means() * gap.T
        return (
            trace(weight * self.within * weight.T)
            + sum(share * norm(at_means[c, :]) ** 2 for c, share in enumerate(self.shares))
        ) / 2

    def own_layer(self) -> mpmath.matrix:
        wide = torch.cat([self.layer.weight, self.layer.bias[:, None]], 1) if self.bias else self.layer.weight
        return mpmath.matrix(wide.tolist())

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


def trace(matrix: mpmath.matrix) -> mpf:
    return mpmath.fsum(matrix[i, i] for i in range(matrix.rows))


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
    measured = decompose_mse(case.statistics, case.layer, case.ridge)
    own, width = case.own_layer(), case.num_features
    data, _, _ = case.losses(own)
    squares = norm(own[:, :width]) ** 2, norm(own[:, width]) ** 2 if case.bias else mpf(0)
    decay = (ridges[0] * squares[0] + ridges[1] * squares[1]) / 2
    # What float64 leaves of W h, of this layer and, below, of the best.
    products = float(norm(own[:, :width] * mpmath.diag(case.sizes)) * len(case.labels) * EPSILON)
    assert near(measured.loss_data, data, 1e-10, products**2)
    assert near(measured.loss_decay, decay, 1e-12)
    assert near(measured.loss, data + decay, 1e-10, products**2)
    assert abs(measured.loss - measured.loss_ls - measured.loss_ls_perp) <= measured.loss_rounding
    assert 0 <= distance_to_path(case.statistics, case.layer, case.ridge).perp_share <= 1
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
        assert near(asdict(measured)[name], value, rel, 1e-28), name
    distance = distance_to_path(case.statistics, case.layer, case.ridge)
    assert near(distance.perp_share, expected["loss_ls_perp"] / (expected["loss_ls"] + expected["loss_ls_perp"]), rel)
    assert near(distance.classifier_distance, norm_f(own - best) / norm_f(best), 1e3 * rel)


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
    measured = measure_collapse(case.statistics, case.layer)
    num_classes, width = case.num_classes, case.num_features
    frame = centered(case.means, mpmath.matrix([[mpf(1) / num_classes] * num_classes]) * case.means)
    weight = mpmath.matrix(case.layer.weight.tolist())
    lengths = [norm(frame[c, :]) for c in range(num_classes)]
    values, _, order = case.between_spectrum
    sizes = [mpmath.sqrt(max(values[j], 0)) for j in order[: min(num_classes - 1, width)]]
    certain, possible = (sum(size > factor * case.mean_rounding for size in sizes) for factor in (2, mpf(1) / 100))
    assert certain <= measured.rank_means <= possible
    # Relative error of a class mean, and of its square.
    rel = DIGITS + float(1000 * EPSILON * norm(case.sizes) / max(min(lengths), case.mean_rounding))
    if min(lengths) > 2 * case.mean_rounding:
        mean_length = mpmath.fsum(lengths) / num_classes
        deviation = mpmath.sqrt(mpmath.fsum((one - mean_length) ** 2 for one in lengths) / (num_classes - 1))
        assert near(measured.equinorm_means, deviation / mean_length, rel, rel)
        cosines = [
            (frame[a, :] * frame[b, :].T)[0] / lengths[a] / lengths[b]
            for a in range(num_classes) for b in range(num_classes) if a != b
        ]  # fmt: skip
        middle = mpmath.fsum(cosines) / len(cosines)
        angles = mpmath.fsum(abs(cosine + mpf(1) / (num_classes - 1)) for cosine in cosines) / len(cosines)
        assert near(measured.maximal_angle_means, angles, rel, rel)
        spread = mpmath.sqrt(mpmath.fsum((cosine - middle) ** 2 for cosine in cosines) / len(cosines))
        assert near(measured.equiangularity_means, spread, rel, math.sqrt(rel))
        ideal = (mpmath.eye(num_classes) - mpmath.ones(num_classes) / num_classes) / mpmath.sqrt(num_classes - 1)
        gram = frame * frame.T
        assert near(measured.etf_error_means, norm_f(gram / norm_f(gram) - ideal), rel, 1e2 * rel)
        assert near(measured.self_duality, norm_f(weight / norm_f(weight) - frame / norm_f(frame)) ** 2, rel, rel)
        assert near(measured.norm_ratio, (norm_f(weight) / norm_f(frame)) ** 2, rel)
        ratio = trace(case.within) / trace(case.between)
        of_sums = float((len(case.labels) * EPSILON * norm(case.sizes)) ** 2 / trace(case.between))
        assert near(measured.nc1_ratio, ratio, rel + 100 * resolution(case), of_sums)
    check_variability(case, measured, sizes, certain == possible)


def resolution(case: Case) -> float:
    return min(case.resolution(), 1.0)


def check_variability(case: Case, measured: object, sizes: list[mpf], certain: bool) -> None:
    rank, num_classes = int(measured.rank_means), case.num_classes
    # Of a small direction the square, from sums that know the largest.
    rel = DIGITS + 100 * resolution(case)
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
    if case.least_variance > 2:
        spectrum = snr_spectrum(case.statistics)
        assert spectrum.defined
        assert spectrum.rank == case.num_features
        ratio = case.centered * mpmath.inverse(case.within) * case.centered.T
        values = [mpmath.sqrt(max(value, 0)) for value in eigenvalues(ratio)][::-1][: len(spectrum.singular_values)]
        allowed = 10 * spectrum.rounding + DIGITS + 100 * resolution(case)
        for found, value in zip(spectrum.singular_values.tolist(), values, strict=True):
            assert near(found, value, allowed, float(allowed * values[0]) / 1e3)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(CASES // BATCH))
def test_numbers_of_a_last_layer_agree_with_fifty_digits(batch):
    with mpmath.workdps(60):
        for seed in range(batch * BATCH, (batch + 1) * BATCH):
            case = Case(seed)
            try:
                check_decomposition(case)
                check_collapse(case)
            except AssertionError as error:
                shape = f"{case.dtype}, C = {case.num_classes}, P = {case.num_features}, λ = {case.ridge}"
                raise AssertionError(f"seed {seed}: {shape}") from error
