"""Ranks, alignment, effective depth, probes, norms and spectra against NumPy, SciPy and exact cases."""

import math

import numpy as np
import pytest
import torch
from drawn_features import draw
from scipy.linalg import subspace_angles
from torch import Tensor

from ncexp.collapse import (
    LinearClassifier,
    absolute_norms,
    class_statistics,
    effective_depth,
    effective_rank_of,
    layer_probe,
    measure_collapse,
    next_weight_alignment,
    simplex_etf,
    spectra,
    stable_rank,
)

# Singular values of matrices with condition numbers below 1e3.
ROUNDING = 1e-11


def means_of(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)).double()


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (1, 4), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_equal_numpy(shape, dtype):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    scales = np.linalg.svd(matrix.double().numpy())[1]
    assert stable_rank(matrix) == pytest.approx((np.linalg.norm(matrix.double()) / scales[0]) ** 2, rel=ROUNDING)
    shares = scales / scales.sum()
    assert effective_rank_of(matrix) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=ROUNDING)


def test_ranks_of_exact_cases():
    for rank in (1, 3):
        matrix = torch.zeros(6, 4)
        matrix[range(rank), range(rank)] = 1e-200 if rank == 1 else 7.0
        assert stable_rank(matrix.double()) == pytest.approx(rank) or rank == 1
        assert effective_rank_of(7 * torch.eye(6)[:, :rank]) == pytest.approx(rank)
    assert stable_rank(torch.diag(torch.tensor([2.0, 1.0]))) == pytest.approx(1.25)
    assert stable_rank(torch.tensor([[1e-200]], dtype=torch.float64)) == 1.0  # its square underflows
    assert math.isnan(stable_rank(torch.zeros(3, 3)))
    assert math.isnan(effective_rank_of(torch.zeros(3, 3)))


@pytest.mark.parametrize(("num_classes", "num_features", "width"), [(4, 9, 6), (4, 9, 2), (6, 4, 5), (2, 3, 7)])
def test_alignment_equals_scipy(num_classes, num_features, width):
    features, labels, _ = draw(num_classes, num_features, 60)
    weight = torch.randn(width, num_features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = next_weight_alignment(class_statistics(features, labels, num_classes), weight)
    means = torch.stack([features[labels == c].mean(0) for c in range(num_classes)])
    span = np.linalg.svd(means_of(means).numpy(), full_matrices=False)[2][: min(num_classes - 1, num_features)]
    read = np.linalg.svd(weight.numpy(), full_matrices=False)[2][: num_classes - 1]
    angles = subspace_angles(span.T, read.T)
    assert found.overlap == pytest.approx((np.cos(angles) ** 2).mean(), rel=1e-9)
    assert found.largest_angle == pytest.approx(math.degrees(angles.max()), rel=1e-6, abs=1e-5)


def test_alignment_of_a_collapsed_layer_is_exact():
    """A weight that reads the class means and nothing else: angle 0 to 1e-14, which no arccos would show."""
    features, labels, _ = draw(5, 12, 60)
    statistics = class_statistics(features, labels, 5)
    turn = torch.linalg.qr(torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    aligned = next_weight_alignment(statistics, turn @ means_of(statistics.class_means))
    assert aligned.overlap == pytest.approx(1.0, rel=1e-13)
    assert aligned.largest_angle < 1e-11
    beyond = torch.linalg.svd(means_of(statistics.class_means)).Vh[4:]
    orthogonal = next_weight_alignment(statistics, beyond)
    assert orthogonal.overlap < 1e-25
    assert orthogonal.largest_angle == pytest.approx(90.0)


def test_rounding_of_float32_is_no_direction_of_the_class_means():
    """Behind a bottleneck of two units: the third direction of four class means is rounding, and not counted."""
    inner, labels, _ = draw(4, 2, 60)
    mixing = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    statistics = class_statistics(inner.float() @ mixing, labels, 4)
    reads_more = torch.cat([mixing, torch.eye(9)[:1]])
    assert next_weight_alignment(statistics, reads_more).largest_angle < 1e-4
    assert next_weight_alignment(statistics, reads_more).overlap == pytest.approx(1.0)


def test_alignment_needs_two_subspaces():
    features, labels, _ = draw(4, 6, 40)
    statistics = class_statistics(features, labels, 4)
    assert math.isnan(next_weight_alignment(statistics, torch.zeros(3, 6)).overlap)
    constant = class_statistics(torch.ones(8, 6), torch.arange(8) % 4, 4)
    assert math.isnan(next_weight_alignment(constant, torch.eye(6)).largest_angle)


@pytest.mark.parametrize(
    ("errors", "tolerance", "depth"),
    [
        ([0.5, 0.3, 0.1, 0.1], 0.0, 3),
        ([0.5, 0.1, 0.2, 0.1], 0.0, 4),  # not for good
        ([0.1, 0.1, 0.1], 0.0, 1),
        ([0.5, 0.4, 0.1], 0.0, 3),
        ([0.5, 0.12, 0.1], 0.02, 2),
        ([0.0, 0.0, 0.3], 0.0, 1),  # better than the last is not worse
        ([0.7], 0.0, 1),
    ],
)
def test_effective_depth_is_where_the_error_stays(errors, tolerance, depth):
    assert effective_depth(errors, tolerance) == depth


def test_probe_is_the_regression_on_one_hot_labels():
    features, labels, _ = draw(4, 6, 80)
    probe = layer_probe(class_statistics(features.float(), labels, 4))
    extended = np.c_[features.float().double().numpy(), np.ones(len(features))]
    targets = np.eye(4)[labels.numpy()]
    best = np.linalg.lstsq(extended, targets, rcond=None)[0]
    np.testing.assert_allclose(probe.classifier.weight, best[:-1].T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(probe.classifier.bias, best[-1], rtol=1e-9, atol=1e-9)
    residual = ((extended @ best - targets) ** 2).sum(1).mean() / 2
    assert probe.loss == pytest.approx(residual, rel=1e-9)
    total = ((targets - targets.mean(0)) ** 2).sum(1).mean() / 2
    assert probe.explained == pytest.approx(1 - residual / total, rel=1e-9)


def test_probe_of_a_constant_layer_explains_nothing():
    probe = layer_probe(class_statistics(torch.ones(12, 3), torch.arange(12) % 3, 3))
    assert probe.explained == pytest.approx(0, abs=1e-12)
    frame = simplex_etf(4, 5)
    collapsed = layer_probe(class_statistics(frame[torch.arange(12) % 4], torch.arange(12) % 4, 4))
    assert collapsed.explained == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_equal_numpy(dtype):
    features, labels, classifier = draw(4, 6, 50)
    features = features.to(dtype)
    statistics = class_statistics(features, labels, 4)
    found, rows = absolute_norms(statistics, classifier), features.double().numpy()
    means = np.stack([rows[labels.numpy() == c].mean(0) for c in range(4)])
    frame, weight, bias = means - means.mean(0), classifier.weight.numpy(), classifier.bias.numpy()
    assert found.class_means == pytest.approx(np.linalg.norm(frame) / 2, rel=ROUNDING)
    assert found.weight == pytest.approx(np.linalg.norm(weight) / 2, rel=ROUNDING)
    assert found.bias == pytest.approx(np.linalg.norm(bias), rel=ROUNDING)
    assert found.at_global_mean == pytest.approx(np.linalg.norm(weight @ rows.mean(0) + bias), rel=ROUNDING)
    assert found.features == pytest.approx(np.sqrt((rows**2).sum(1).mean()), rel=ROUNDING)
    assert found.features >= np.linalg.norm(rows, axis=1).mean()
    ratio = measure_collapse(statistics, classifier).norm_ratio
    assert (found.weight / found.class_means) ** 2 == pytest.approx(ratio, rel=ROUNDING)
    assert absolute_norms(statistics, LinearClassifier(classifier.weight)).bias == 0


@pytest.mark.parametrize(("num_classes", "num_features"), [(4, 6), (9, 3), (2, 1)])
def test_spectra_equal_numpy(num_classes, num_features):
    features, labels, classifier = draw(num_classes, num_features, 50)
    statistics = class_statistics(features, labels, num_classes)
    found, rank = spectra(statistics, classifier), min(num_classes - 1, num_features)
    means = statistics.class_means.numpy()
    np.testing.assert_allclose(found.weight, np.linalg.svd(classifier.weight.numpy())[1], rtol=ROUNDING)
    np.testing.assert_allclose(found.class_means, np.linalg.svd(means - means.mean(0))[1][:rank], rtol=1e-9)
    within = np.linalg.eigvalsh(statistics.within_class_covariance.numpy())[::-1]
    np.testing.assert_allclose(found.within, within, rtol=1e-9)
    between = np.linalg.eigvalsh(statistics.between_class_covariance.numpy())[::-1][:rank]
    np.testing.assert_allclose(found.between, between, rtol=1e-9)
    assert len(found.class_means) == len(found.between) == rank


def test_small_eigenvalues_of_between_are_not_lost():
    """Class means of sizes 1 and 1e-9: squared, the second is below the rounding of the first."""
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2e-9], [0.0, -2e-9]], dtype=torch.float64)
    turn = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
    statistics = class_statistics((means @ turn).repeat(2, 1), torch.arange(8) % 4, 4)
    found = spectra(statistics, LinearClassifier(torch.ones(4, 2)))
    # Turned, the second is known to 1e-16/1e-9.
    np.testing.assert_allclose(found.between, [0.5, 2e-18], rtol=1e-6)
    np.testing.assert_allclose(found.class_means, [math.sqrt(2), math.sqrt(8) * 1e-9], rtol=1e-6)


def test_bad_input_is_refused():
    features, labels, classifier = draw(4, 6, 40)
    statistics = class_statistics(features, labels, 4)
    for call, message in (
        (lambda: stable_rank(torch.zeros(3)), "matrix: expected a floating matrix"),
        (lambda: stable_rank(torch.zeros(0, 3)), "matrix: expected a floating matrix"),
        (lambda: effective_rank_of(torch.eye(2) / 0), "matrix: expected finite values"),
        (lambda: next_weight_alignment(statistics, torch.eye(5)), "weight: expected P = 6 columns, got 5"),
        (lambda: next_weight_alignment(statistics, torch.zeros(6, 6, 3, 3)), "weight: expected a floating matrix"),
        (lambda: next_weight_alignment(statistics, torch.eye(6) * math.nan), "weight: expected finite values"),
        (lambda: effective_depth([]), "errors: expected finite numbers, at least one"),
        (lambda: effective_depth([0.1, math.nan]), "errors: expected finite numbers"),
        (lambda: effective_depth([0.1], -1.0), "tolerance: expected a finite number >= 0"),
        (lambda: layer_probe(statistics, -1.0), "ridge: expected a finite number >= 0"),
        (lambda: absolute_norms(statistics, LinearClassifier(torch.eye(4))), "classifier: expected weight of shape"),
        (lambda: spectra(statistics, LinearClassifier(classifier.weight[:3])), "classifier: expected weight of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
