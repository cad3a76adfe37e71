"""Exact cases and invariances; against the definitions: test_fifty_digits.py; undefined: test_undefined_collapse.py."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from drawn_features import draw

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
