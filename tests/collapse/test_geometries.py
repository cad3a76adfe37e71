"""Geometries of class means: the simplex by its properties, SELI and its kin against minima that know nothing of them
(dual certificates, SLSQP, L-BFGS, soft thresholds), margins against a search over convex combinations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ncexp.collapse import free_bias_geometry, gram_distance, one_vs_rest_margin, seli_geometry, simplex_etf
from ncexp.collapse.geometries import LabelGeometry

Matrix = NDArray[np.float64]
#: What a minimiser leaves of a distance between normalised Gram matrices.
MINIMUM = 1e-6
#: Float64, a few eigenvalue problems.
ROUNDING = 1e-12
EXACT = 1e-14  # the simplex's corners are products of two square roots
SOLVED = 1e-10  # a problem of non-negative least squares
COUNTS = [[3, 2, 1], [1, 1, 50], [1000, 100, 10, 1], [7, 1, 1, 5, 2]]


def one_hot(counts: list[int]) -> Matrix:
    """Y, (C, n)."""
    return np.repeat(np.eye(len(counts)), counts, axis=1)


def centred(counts: list[int], free_bias: bool) -> Matrix:
    """Z by its definition."""
    labels = one_hot(counts)
    return labels - labels.mean(axis=1 if free_bias else 0, keepdims=True)


def grams(weight: Matrix, features: Matrix, counts: list[int]) -> LabelGeometry:
    """Of W (C, P) and H (P, n); class means as they are."""
    means = features @ one_hot(counts).T / np.array(counts)
    return LabelGeometry(torch.tensor(means.T @ means), torch.tensor(weight @ weight.T))


def distance(found: LabelGeometry, expected: LabelGeometry) -> float:
    return max(gram_distance(found.means, expected.means), gram_distance(found.classifier, expected.classifier))


GEOMETRIES: list[tuple[bool, Callable[[torch.Tensor], LabelGeometry]]] = [
    (False, seli_geometry),
    (True, free_bias_geometry),
]


@pytest.mark.parametrize(("free_bias", "geometry"), GEOMETRIES)
@pytest.mark.parametrize("counts", COUNTS)
def test_label_geometry_is_that_of_the_singular_value_decomposition(
    counts: list[int], free_bias: bool, geometry: Callable[[torch.Tensor], LabelGeometry]
) -> None:
    left, scales, right = np.linalg.svd(centred(counts, free_bias), full_matrices=False)
    root = np.sqrt(scales[: len(counts) - 1])
    found = grams(left[:, : len(root)] * root, root[:, None] * right[: len(root)], counts)
    assert distance(found, geometry(torch.tensor(counts))) < ROUNDING


@pytest.mark.parametrize("geometry", [seli_geometry, free_bias_geometry])
def test_label_geometry_of_equal_classes_is_the_simplex(geometry: Callable[[torch.Tensor], LabelGeometry]) -> None:
    corners = simplex_etf(5, 4)
    found = geometry(torch.full((5,), 12))
    assert gram_distance(found.means, corners @ corners.T) < ROUNDING
    assert gram_distance(found.classifier, corners @ corners.T) < ROUNDING


@pytest.mark.parametrize("free_bias", [False, True])
@pytest.mark.parametrize("counts", COUNTS)
def test_centred_labels_have_a_dual_certificate(counts: list[int], free_bias: bool) -> None:
    """They are the least nuclear norm with all margins >= 1: Z is optimal where its subgradient V Uᵀ is a sum of
    β_ic (e_y − e_c) over the margins, β >= 0, and with a free bias has no sum over examples; and all margins are 1.
    """
    labels, logits = one_hot(counts), centred(counts, free_bias)
    left, scales, right = np.linalg.svd(logits, full_matrices=False)
    rank = len(counts) - 1
    assert scales[rank:].max(initial=0) < 1e-9 * scales[0]
    slope = left[:, :rank] @ right[:rank]
    multipliers = -slope[labels == 0]
    assert multipliers.min() > 0
    assert np.abs(slope.sum(0)).max() < ROUNDING
    bias = labels.mean(1, keepdims=True) if free_bias else 0.0
    margins = ((logits + bias) * labels).sum(0) - (logits + bias)
    assert np.abs(margins[labels == 0] - 1).max() < ROUNDING
    if free_bias:
        assert np.abs(slope.sum(1)).max() < 1e-9


def trained(counts: list[int], decay: float, loss: Any, free_bias: bool) -> LabelGeometry:
    """Unconstrained features trained by L-BFGS in float64: loss + decay/2 (‖W‖² + ‖H‖²), and of a bias with them."""
    torch.manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    sizes = (len(counts), len(counts)), (len(counts), len(labels)), (len(counts), 1)
    parts = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]
    optimizer = torch.optim.LBFGS(
        parts, max_iter=500, max_eval=1000, tolerance_grad=1e-10, tolerance_change=0, history_size=30,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        weight, features, bias = parts
        decayed = parts[:2] if free_bias else parts
        total = loss((weight @ features + bias).T, labels) + decay / 2 * sum(part.square().sum() for part in decayed)
        total.backward()
        return total

    optimizer.step(closure)
    weight, features, _ = (part.detach().numpy() for part in parts)
    return grams(weight, features, counts)


def half_mse(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits - torch.nn.functional.one_hot(labels, logits.shape[1])).square().sum() / 2 / len(labels)


def test_minimum_with_mse_is_a_soft_threshold_that_goes_to_the_geometry() -> None:
    counts, decay = [6, 3, 1], 2e-2

    def thresholded(decay: float) -> LabelGeometry:
        left, scales, right = np.linalg.svd(centred(counts, True), full_matrices=False)
        root = np.sqrt(np.maximum(scales - decay * sum(counts), 0))  # of ½‖Z − Y‖²/n + λ‖Z‖_*
        return grams(left * root, root[:, None] * right, counts)

    assert distance(trained(counts, decay, half_mse, True), thresholded(decay)) < MINIMUM
    assert distance(thresholded(1e-9), free_bias_geometry(torch.tensor(counts))) < MINIMUM


def test_minimum_with_cross_entropy_nears_seli_as_the_decay_vanishes() -> None:
    """Slowly, as one over the size of the logits, which grow as log(1/λ)."""
    counts = [6, 3, 1]
    expected, cross_entropy = seli_geometry(torch.tensor(counts)), torch.nn.functional.cross_entropy
    apart = [distance(trained(counts, decay, cross_entropy, False), expected) for decay in (1e-2, 1e-3, 1e-4)]
    assert apart[0] > 1.1 * apart[1] > 1.1**2 * apart[2] > 0


def test_gram_distance_has_no_scale() -> None:
    gram = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    assert gram_distance(7 * gram, gram) < ROUNDING
    assert gram_distance(gram, -gram) == pytest.approx(2)
    assert np.isnan(gram_distance(0 * gram, gram))


@pytest.mark.parametrize("counts", [[3], [3, 0, 1], [[1, 2]]])
def test_label_geometry_refuses_what_are_no_counts(counts: Any) -> None:
    with pytest.raises(ValueError, match="counts: expected"):
        seli_geometry(torch.tensor(counts))


@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 1), (2, 5), (3, 2), (10, 9), (10, 64), (200, 199)])
def test_simplex_etf_is_centered_equinorm_and_maximally_equiangular(num_classes, num_features):
    corners = simplex_etf(num_classes, num_features)
    assert corners.shape == (num_classes, num_features)
    assert corners.dtype == torch.float64
    gram = (torch.eye(num_classes, dtype=torch.float64) * num_classes - 1) / (num_classes - 1)
    assert (corners @ corners.T - gram).abs().max() < EXACT
    assert corners.sum(0).abs().max() < EXACT * num_classes


def test_simplex_etf_refuses_too_few_dimensions_and_classes():
    with pytest.raises(ValueError, match="num_features: expected at least C − 1 = 9, got 8"):
        simplex_etf(10, 8)
    with pytest.raises(ValueError, match="num_classes: expected at least 2, got 1"):
        simplex_etf(1, 8)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_margin_of_the_simplex_is_the_largest(num_classes: int) -> None:
    corners = 3 * simplex_etf(num_classes, num_classes + 2)
    assert one_vs_rest_margin(corners) == pytest.approx(num_classes / (num_classes - 1), rel=SOLVED)


def test_margin_of_polygon_and_cross_polytope() -> None:
    angles = 2 * math.pi * torch.arange(7, dtype=torch.float64) / 7
    polygon = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert one_vs_rest_margin(polygon) == pytest.approx(1 - math.cos(2 * math.pi / 7), rel=SOLVED)
    assert one_vs_rest_margin(torch.cat([torch.eye(4), -torch.eye(4)])) == pytest.approx(1, rel=SOLVED)


def test_margin_is_zero_within_the_hull_and_undefined_at_zero() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert one_vs_rest_margin(vectors) == pytest.approx(0, abs=SOLVED)
    assert math.isnan(one_vs_rest_margin(torch.tensor([[1.0, 0.0], [0.0, 0.0]])))
