"""Data and decay part of each term of the decomposition: brute force over the examples, and that they add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drawn_features import draw

from ncexp.collapse import LinearClassifier, class_statistics, decompose_mse

RIDGES = [(5e-4, 5e-4), (0.3, 0.0), (0.0, 0.1)]
#: Linear systems of condition number below 1e4, in float64.
ROUNDING = 1e-10
TERMS = ["loss", "loss_ls", "loss_nc1", "loss_ls_perp"]


def by_brute_force(features, labels, classifier, ridges) -> dict[str, tuple[float, float]]:
    """(data, decay) of each term, in NumPy, from the examples; W̃_LS as a least-squares problem with penalty rows."""
    bias = classifier.bias is not None
    h, w = features.numpy(), classifier.weight.numpy()
    if bias:
        h, w = np.c_[h, np.ones(len(h))], np.c_[w, classifier.bias.numpy()]
    onehot, penalties = np.eye(len(w))[labels.numpy()], np.array([ridges[0]] * features.shape[1] + [ridges[1]] * bias)
    rows = np.r_[h / math.sqrt(len(h)), np.diag(np.sqrt(penalties))]
    targets = np.r_[onehot / math.sqrt(len(h)), np.zeros((len(penalties), len(w)))]
    best = np.linalg.lstsq(rows, targets, rcond=None)[0].T
    own_means = np.stack([h[labels.numpy() == c].mean(0) for c in range(len(w))])[labels.numpy()]

    def mean_square(residuals):
        return float((residuals**2).sum(1).mean()) / 2

    def decay(layer):
        return float((layer**2 * penalties).sum()) / 2

    return {
        "loss": (mean_square(h @ w.T - onehot), decay(w)),
        "loss_ls": (mean_square(h @ best.T - onehot), decay(best)),
        "loss_nc1": (mean_square((h - own_means) @ best.T), decay(best)),
        "loss_ls_perp": (mean_square(h @ (w - best).T), decay(w - best)),
    }


@pytest.mark.parametrize("ridges", RIDGES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("num_classes", "num_features"), [(4, 6), (9, 3)])
def test_data_and_decay_parts_equal_sums_over_the_examples(num_classes, num_features, bias, ridges):
    features, labels, classifier = draw(num_classes, num_features, 80)
    if not bias:
        classifier = LinearClassifier(classifier.weight)
    measured = decompose_mse(class_statistics(features, labels, num_classes), classifier, ridges)
    expected = by_brute_force(features, labels, classifier, ridges)
    for term in TERMS:
        parts = getattr(measured, f"{term}_data"), getattr(measured, f"{term}_decay")
        np.testing.assert_allclose(parts, expected[term], rtol=ROUNDING, err_msg=term)
        assert sum(parts) == pytest.approx(getattr(measured, term), rel=ROUNDING)
    assert measured.loss_ls_data == pytest.approx(measured.loss_nc1_data + measured.loss_nc23, rel=ROUNDING)


@pytest.mark.parametrize("spread", [1e-2, 1e-5])
def test_parts_add_up_in_collapse_where_one_is_a_trace_of_the_other(spread):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat(12)
    means = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(60, 8, generator=generator, dtype=torch.float64)
    statistics = class_statistics(means[labels] + spread * noise, labels, 5)
    measured = decompose_mse(statistics, LinearClassifier(means), 1e-2)
    assert 0 < measured.loss_nc1_data < 10 * spread**2 < measured.loss_nc1_decay
    for term in TERMS:
        parts = getattr(measured, f"{term}_data") + getattr(measured, f"{term}_decay")
        assert parts == pytest.approx(getattr(measured, term), rel=ROUNDING)


def test_without_decay_the_data_part_is_all_for_dependent_features():
    features, labels, classifier = draw(4, 3, 40)
    dependent = torch.cat([features, features[:, :1]], 1)
    layer = LinearClassifier(torch.cat([classifier.weight, classifier.weight[:, :1]], 1), classifier.bias)
    measured = decompose_mse(class_statistics(dependent, labels, 4), layer, 0.0)
    for term in TERMS:
        assert getattr(measured, f"{term}_data") == getattr(measured, term)
        assert getattr(measured, f"{term}_decay") == 0
