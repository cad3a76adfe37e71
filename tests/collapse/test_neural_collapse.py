"""Every metric against its definition in plain NumPy, exact cases, invariances, and where a metric is undefined.

With fifty digits, on small shapes: test_fifty_digits.py.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from drawn_features import draw
from torch import Tensor

from ncexp.collapse import (
    ClassStatistics,
    CollapseMetrics,
    LinearClassifier,
    class_statistics,
    measure_collapse,
    simplex_etf,
)
from ncexp.collapse import pairwise as pairwise_module

# Well-conditioned cases: a few hundred roundings, and the condition number of a random covariance.
ROUNDING = 1e-10
# What is exactly 0 in theory and a rounding of numbers of size 1 here.
ZERO = 1e-13
NAMES = [field.name for field in dataclasses.fields(CollapseMetrics)]


def brute_force(features: Tensor, labels: Tensor, weight: Tensor) -> dict[str, float]:
    """The table of definitions, example by example and pair by pair."""
    h, y, w = features.numpy(), labels.numpy(), weight.numpy()
    n, num_classes = len(h), len(w)
    mu = np.stack([h[y == c].mean(0) for c in range(num_classes)])
    m, frame = mu - h.mean(0), mu - mu.mean(0)
    pi = np.bincount(y) / n
    within = sum(np.outer(d, d) for d in h - mu[y]) / n
    between = sum(p * np.outer(x, x) for p, x in zip(pi, m, strict=True))
    v = [((h[y == c] - mu[c]) ** 2).sum(1).mean() for c in range(num_classes)]
    pairs = [(a, b) for a in range(num_classes) for b in range(num_classes) if a != b]
    rank = min(num_classes - 1, h.shape[1])

    def cos(x, z):
        return x @ z / np.linalg.norm(x) / np.linalg.norm(z)

    def etf_error(gram):
        ideal = (np.eye(num_classes) - 1 / num_classes) / np.sqrt(num_classes - 1)
        return np.linalg.norm(gram / np.linalg.norm(gram) - ideal)

    def entropy_rank(scales):
        p = scales[scales > 0] / scales.sum()
        return np.exp(-(p * np.log(p)).sum())

    values, vectors = np.linalg.eigh(between)
    inverse = vectors[:, -rank:] / values[-rank:] @ vectors[:, -rank:].T
    scales, directions = np.linalg.eigh(within)
    omega = np.linalg.svd(directions / np.sqrt(scales) @ directions.T @ m.T, compute_uv=False)[:rank]
    units = frame / np.linalg.norm(frame, axis=1, keepdims=True)
    kernel = [-np.log(np.linalg.norm(units[a] - units[b])) for a, b in pairs]
    answer = {
        "nc1_trace": np.trace(within @ inverse) / num_classes,
        "nc1_trace_on_range": np.trace(within @ inverse) / num_classes,
        "rank_means": rank,
        "nc1_ratio": np.trace(within) / np.trace(between),
        "nc1_snr": (omega**-2.0).sum(),
        "cdnv": np.mean([(v[a] + v[b]) / 2 / ((mu[a] - mu[b]) ** 2).sum() for a, b in pairs]),
        "self_duality": ((w / np.linalg.norm(w) - frame / np.linalg.norm(frame)) ** 2).sum(),
        "self_duality_product": etf_error(w @ frame.T),
        "self_duality_angle": np.mean([1 - cos(w[c], frame[c]) for c in range(num_classes)]),
        "uniformity_means": np.mean(kernel),
        "uniformity_means_variance": np.var(kernel),
        "uniform_duality": np.var([w[c] @ frame[c] for c in range(num_classes)]),
        "norm_ratio": (w**2).sum() / (frame**2).sum(),
        "nc0_classifier": np.linalg.norm(w.sum(0)) / np.linalg.norm(w),
        "effective_rank_means": entropy_rank(np.linalg.svd(frame, compute_uv=False)[:rank]),
        "effective_rank_within": entropy_rank(np.sqrt(scales)),
    }
    for name, x in (("means", frame), ("classifier", w)):
        norms, cosines = np.linalg.norm(x, axis=1), np.array([cos(x[a], x[b]) for a, b in pairs])
        answer[f"equinorm_{name}"] = norms.std(ddof=1) / norms.mean()
        answer[f"equiangularity_{name}"] = cosines.std()
        answer[f"maximal_angle_{name}"] = np.abs(cosines + 1 / (num_classes - 1)).mean()
        answer[f"etf_error_{name}"] = etf_error(x @ x.T)
    return answer


# C − 1 < P, C − 1 = P, C − 1 > P, two classes, one feature.
SHAPES = [(5, 9), (5, 4), (9, 4), (12, 10), (2, 3), (2, 1), (6, 2)]


@pytest.mark.parametrize(("num_classes", "num_features"), SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_equal_their_definitions(num_classes, num_features, seed):
    features, labels, classifier = draw(num_classes, num_features, 120, seed)
    measured = dataclasses.asdict(measure_collapse(class_statistics(features, labels, num_classes), classifier))
    expected = brute_force(features, labels, classifier.weight)
    assert list(measured) == NAMES
    assert sorted(expected) == sorted(NAMES)
    for name in NAMES:
        assert type(measured[name]) is float
        assert measured[name] == pytest.approx(expected[name], rel=ROUNDING, abs=ZERO), name


@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 1), (10, 9), (10, 30), (50, 64)])
def test_collapse_on_a_rotated_simplex_etf_is_exact(num_classes, num_features):
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(num_features, num_features, generator=generator).double()).Q
    corners = simplex_etf(num_classes, num_features) @ rotation
    statistics = ClassStatistics(
        counts=torch.full((num_classes,), 7),
        class_means=3 * corners + 1,
        within_class_covariance=torch.zeros(num_features, num_features, dtype=torch.float64),
        within_class_variances=torch.zeros(num_classes, dtype=torch.float64),
    )
    metrics = dataclasses.asdict(measure_collapse(statistics, LinearClassifier(0.5 * corners)))
    not_zero = {
        "nc1_snr": math.nan,  # no within-class variation: no signal-to-noise ratio
        "uniformity_means": -0.5 * math.log(2 * num_classes / (num_classes - 1)),
        "norm_ratio": (0.5 / 3) ** 2,
        "effective_rank_means": num_classes - 1,
        "rank_means": num_classes - 1,
        "effective_rank_within": math.nan,
    }
    for name in NAMES:
        assert metrics[name] == pytest.approx(not_zero.get(name, 0.0), rel=ROUNDING, abs=ZERO, nan_ok=True), name


SVHN_TEST = [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595]


@pytest.mark.parametrize(
    "counts", [SVHN_TEST, [100 if c == 0 else 1 for c in range(10)], [10 ** (c % 4) for c in range(10)]]
)
def test_collapse_does_not_see_class_sizes(counts):
    """Class means on a simplex, whatever the number of examples in each class: every metric is at its value."""
    corners = simplex_etf(10, 30)
    noise = 1e-4 * torch.eye(30, dtype=torch.float64)
    metrics = [
        dataclasses.asdict(
            measure_collapse(
                ClassStatistics(torch.tensor(sizes), 3 * corners + 1, noise, torch.full((10,), 3e-3).double()),
                LinearClassifier(0.5 * corners),
            )
        )
        for sizes in (counts, [7] * 10)
    ]
    # These rest on Σ_B, whose centre is the mean of examples.
    of_examples = {"nc1_trace", "nc1_trace_on_range", "nc1_ratio", "nc1_snr"}
    for name in set(NAMES) - of_examples:
        assert metrics[0][name] == pytest.approx(metrics[1][name], rel=ROUNDING, abs=ZERO), name
    for name in NAMES:
        if name.startswith(("equi", "maximal", "etf", "self", "uniform_")) or name == "uniformity_means_variance":
            assert abs(metrics[0][name]) < ZERO, name


def test_effective_rank_within_counts_no_rounding():
    """n − C < P, so Σ_W has P − n + C eigenvalues 0: their rounding is 1e-16 and its root would count."""
    features, labels, classifier = draw(3, 40, 20)
    statistics = class_statistics(features, labels, 3)
    deviations = features - statistics.class_means[labels]
    scales = np.linalg.svd(deviations.numpy(), compute_uv=False)[: len(labels) - 3]
    shares = scales / scales.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert measure_collapse(statistics, classifier).effective_rank_within == pytest.approx(expected, rel=ROUNDING)


def test_metrics_are_invariant_under_rotation_shift_and_scale():
    features, labels, classifier = draw(5, 7, 100)
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=generator).double()).Q
    before = dataclasses.asdict(measure_collapse(class_statistics(features, labels, 5), classifier))
    moved = class_statistics(3 * features @ rotation + 4, labels, 5)
    after = dataclasses.asdict(measure_collapse(moved, LinearClassifier(3 * classifier.weight @ rotation)))
    scale = {"uniform_duality": 3.0**4}
    for name in NAMES:
        assert after[name] == pytest.approx(before[name] * scale.get(name, 1), rel=ROUNDING), name


def test_nc1_trace_keeps_directions_that_a_float32_cut_off_deletes():
    """Class means with a spectrum from 1 to 1e-5 and float32 features: NC1 is that of all C − 1 directions."""
    num_classes, num_features = 100, 128
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(num_features, num_classes - 1, generator=generator).double()).Q
    spectrum = torch.logspace(0, -5, num_classes - 1, dtype=torch.float64)
    means = (simplex_etf(num_classes, num_classes - 1) * spectrum) @ basis.T
    noise = 1e-3 * torch.randn(4 * num_classes, num_features, generator=generator).double()
    labels = torch.arange(num_classes).repeat(4)
    features = (means[labels] + noise).to(torch.float32)
    statistics = class_statistics(features, labels, num_classes)
    values, vectors = np.linalg.eigh(statistics.between_class_covariance.numpy())
    values, vectors = values[1 - num_classes :], vectors[:, 1 - num_classes :]
    variances = np.einsum("pk,pq,qk->k", vectors, statistics.within_class_covariance.numpy(), vectors)
    expected = (variances / values).sum() / num_classes
    measured = measure_collapse(statistics, LinearClassifier(means)).nc1_trace
    assert measured == pytest.approx(expected, rel=1e-6)  # the oracle's small eigenvalues are good to that


@pytest.mark.parametrize("num_features", [4, 40])
def test_pair_statistics_do_not_depend_on_the_block(num_features, monkeypatch):
    features, labels, classifier = draw(23, num_features, 300)
    statistics = class_statistics(features, labels, 23)
    whole = dataclasses.asdict(measure_collapse(statistics, classifier))
    for rows in (1, 4, 22):
        monkeypatch.setattr(pairwise_module, "_BLOCK_PAIRS", rows * 23)
        blocked = dataclasses.asdict(measure_collapse(statistics, classifier))
        assert blocked == pytest.approx(whole, rel=ROUNDING, nan_ok=True)


def test_pairs_of_nearly_equal_class_means_keep_their_distance():
    """Two class means 1e-9 apart, far from the global mean: the Gram identity alone would lose their distance."""
    means = torch.tensor([[3.0, 1.0], [3.0 + 1e-9, 1.0], [-2.0, 0.5]], dtype=torch.float64)
    statistics = ClassStatistics(
        torch.tensor([5, 5, 5]), means, 1e-4 * torch.eye(2).double(), torch.full((3,), 2e-4, dtype=torch.float64)
    )
    metrics = measure_collapse(statistics, LinearClassifier(means))
    distances = torch.pdist(means).square()
    assert metrics.cdnv == pytest.approx(float((2e-4 / distances).mean()), rel=1e-6)  # the means' own last digits
    centered = means - means.mean(0)
    kernel = -torch.pdist(torch.nn.functional.normalize(centered)).log()
    assert metrics.uniformity_means == pytest.approx(float(kernel.mean()), rel=1e-6)


def test_measure_collapse_refuses_another_layer():
    features, labels, classifier = draw(5, 7, 100)
    with pytest.raises(ValueError, match=r"classifier: expected weight of shape \(C, P\) = \(5, 7\)"):
        measure_collapse(class_statistics(features, labels, 5), LinearClassifier(classifier.weight[:, :6]))


# Undefined, or as without

# What rounding adds to the variance of features that a bottleneck computes in the dtype, and to the means' geometry.
BEHIND_A_BOTTLENECK = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}


@pytest.mark.parametrize("dtype", BEHIND_A_BOTTLENECK)
@pytest.mark.parametrize(
    ("num_classes", "num_features", "width", "per_class"),
    [
        *((10, 64, 2, 100), (5, 32, 3, 50), (10, 6, 4, 100)),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in ((10, 64, 2, 1000), (10, 64, 5, 100), (10, 512, 8, 100))
        ),
    ],
)
@pytest.mark.parametrize("spread", [0.3, 1e-2])
def test_nc1_behind_a_bottleneck_is_that_of_the_means_directions(
    num_classes, num_features, width, per_class, spread, dtype
):
    """Class means that span fewer directions than C − 1: rounding fills the others, and is no direction."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    inner = torch.randn(num_classes, width, generator=generator).double()[labels]
    inner = inner + spread * torch.randn(inner.shape, generator=generator).double()
    exact = inner @ torch.randn(width, num_features, generator=generator).double() / width**0.5
    statistics = class_statistics(exact.to(dtype), labels, num_classes)
    metrics = measure_collapse(statistics, LinearClassifier(statistics.class_means))
    of_exact = class_statistics(exact, labels, num_classes)
    values, vectors = np.linalg.eigh(of_exact.between_class_covariance.numpy())
    values, vectors = values[-width:], vectors[:, -width:]
    spreads = np.einsum("pk,pq,qk->k", vectors, of_exact.within_class_covariance.numpy(), vectors)
    sizes = np.linalg.svd((of_exact.class_means - of_exact.class_means.mean(0)).numpy(), compute_uv=False)[:width]
    shares = sizes / sizes.sum()
    rel = BEHIND_A_BOTTLENECK[dtype]
    assert metrics.rank_means == width
    assert math.isnan(metrics.nc1_trace)
    # The features' own rounding, squared, is a visible share of a small variance.
    of_rounding = (statistics.feature_eps / spread) ** 2
    assert metrics.nc1_trace_on_range == pytest.approx((spreads / values).sum() / num_classes, rel=rel + of_rounding)
    assert metrics.effective_rank_means == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=rel)
    if statistics.feature_eps < spread / 100:  # else the noise of rounding has a say in how many directions there are
        assert metrics.effective_rank_within <= width


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_class_mean_that_is_rounding_has_no_angle(dtype):
    """Class 0 lies where the mean of the class means is, but for the rounding of the dtype."""
    features, labels, classifier = draw(4, 6, 400)
    others = torch.stack([features[labels == c].mean(0) for c in (1, 2, 3)])
    # Spread over less than a rounding, so that it does not average out.
    features[labels == 0] = others.mean(0) * (1 + torch.finfo(dtype).eps / 4)
    names = undefined_names(features.to(dtype), labels, classifier)
    assert names >= {"equiangularity_means", "maximal_angle_means", "self_duality_angle", "uniformity_means"}
    assert not names & {"nc1_ratio", "cdnv", "equinorm_means", "etf_error_means", "self_duality", "norm_ratio"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_class_means_that_agree_to_rounding_coincide(dtype):
    """Two classes with one mean; their examples differ, their rounding is all that tells their means apart."""
    features, labels, classifier = draw(4, 6, 400)
    apart = features[labels == 1] - features[labels == 1].mean(0)
    center = features[labels == 0].mean(0)
    features = torch.cat([features[labels != 1], center + apart])
    labels = torch.cat([labels[labels != 1], labels[labels == 1]])
    statistics = class_statistics(features.to(dtype), labels, 4)
    metrics = measure_collapse(statistics, classifier)
    assert metrics.rank_means == 2
    for undefined in (metrics.nc1_trace, metrics.nc1_snr, metrics.cdnv):
        assert math.isnan(undefined)
    assert metrics.nc1_trace_on_range > 0


def test_dead_features_leave_nc1_as_it_is_without_them():
    features, labels, classifier = draw(9, 4, 100)
    dead = torch.nn.functional.pad(features, (0, 2), value=0.1)
    weight = torch.nn.functional.pad(classifier.weight, (0, 2))
    before = measure_collapse(class_statistics(features, labels, 9), classifier)
    after = measure_collapse(class_statistics(dead, labels, 9), LinearClassifier(weight))
    assert after.nc1_trace == pytest.approx(before.nc1_trace, rel=ROUNDING)
    assert after.nc1_snr == pytest.approx(before.nc1_snr, rel=ROUNDING)


def undefined_names(features: Tensor, labels: Tensor, classifier: LinearClassifier) -> set[str]:
    statistics = class_statistics(features, labels, classifier.num_classes)
    return {name for name, value in vars(measure_collapse(statistics, classifier)).items() if math.isnan(value)}


FEATURES, LABELS, LAYER = draw(4, 6, 100)
NO_ROW = torch.tensor([1.0, 1, 0, 1])[:, None].double()
OF_ROWS = {"equiangularity_classifier", "maximal_angle_classifier"}
OF_LAYER = OF_ROWS | {"equinorm_classifier", "etf_error_classifier", "nc0_classifier"}
UNIFORMITY = {"uniformity_means", "uniformity_means_variance"}
#: Features, labels, layer → which numbers are undefined at least, and at most.
UNDEFINED = {
    "two class means coincide": (
        (torch.cat([FEATURES[LABELS < 3], FEATURES[LABELS == 1]]),
         torch.cat([LABELS[LABELS < 3], LABELS[LABELS == 1] + 2]), LAYER),
        {"nc1_trace"}, {"nc1_trace", "nc1_snr", "cdnv", *UNIFORMITY},
    ),
    "three classes share one dimension": (draw(3, 1, 100), UNIFORMITY, UNIFORMITY),
    "all class means are equal": (
        (torch.ones(6, 4), torch.arange(6) % 3, draw(3, 4, 10)[2]),
        *[{*NAMES} - OF_LAYER - {"uniform_duality", "rank_means"}] * 2,
    ),
    "a row of the layer is 0": (
        (FEATURES, LABELS, LinearClassifier(NO_ROW * LAYER.weight)), *[OF_ROWS | {"self_duality_angle"}] * 2
    ),
    "the layer is 0": (
        (FEATURES, LABELS, LinearClassifier(0 * LAYER.weight)),
        *[OF_LAYER | {"self_duality", "self_duality_product", "self_duality_angle"}] * 2,
    ),
    "no variation within classes": (
        (LAYER.weight.repeat(2, 1), torch.arange(8) % 4, LAYER), *[{"nc1_snr", "effective_rank_within"}] * 2
    ),
    "overflow": (
        (1e200 * FEATURES, LABELS, LAYER),
        {"nc1_trace", "nc1_ratio", "nc1_snr", "effective_rank_means", "effective_rank_within"},
        {*NAMES} - {"equinorm_classifier", "maximal_angle_classifier", "etf_error_classifier"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNDEFINED)
def test_metrics_are_undefined_and_not_an_error_where(case: str) -> None:
    given, at_least, at_most = UNDEFINED[case]
    assert at_least <= undefined_names(*given) <= at_most


@pytest.mark.parametrize("scale", [1e-140, 1e-100, 1e100, 1e149])
@pytest.mark.parametrize("of_weight", [1e-300, 1.0, 1e155, 1e300])
def test_metrics_without_scale_do_not_depend_on_it(scale, of_weight):
    features, labels, classifier = draw(5, 7, 100)
    before = vars(measure_collapse(class_statistics(features, labels, 5), classifier))
    scaled = LinearClassifier(of_weight * classifier.weight)
    after = vars(measure_collapse(class_statistics(scale * features, labels, 5), scaled))
    for name in set(NAMES) - {"uniform_duality", "norm_ratio"}:
        assert after[name] == pytest.approx(before[name], rel=ROUNDING), name


@pytest.mark.parametrize("scale", [1e-150, 1e-157, 1e-170, 1e-300])
def test_features_too_small_to_be_squared_leave_no_wrong_number(scale):
    features, labels, classifier = draw(5, 7, 100)
    before = vars(measure_collapse(class_statistics(features, labels, 5), classifier))
    after = vars(measure_collapse(class_statistics(scale * features, labels, 5), classifier))
    for name in set(NAMES) - {"uniform_duality", "norm_ratio"}:
        assert math.isnan(after[name]) or after[name] == pytest.approx(before[name], rel=ROUNDING), name
    assert {name for name in NAMES if math.isnan(after[name])} - {"norm_ratio"} == {
        *("nc1_trace", "nc1_trace_on_range", "nc1_ratio", "nc1_snr", "cdnv"),
        *("effective_rank_within", "effective_rank_means", "rank_means"),
    }
