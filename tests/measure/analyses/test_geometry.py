"""The analysis of unequal and many classes: at exact geometries, against NumPy, and where it is undefined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support import snapshot_of
from torch import Tensor

from ncexp.collapse import LinearClassifier, one_vs_rest_margin
from ncexp.measure import Ridge, run_analysis
from ncexp.measure.analyses import Geometry

#: Float64 of a few eigenvalue problems; distances of normalised matrices.
ROUNDING = 1e-9
COUNTS = [40, 9, 3, 2]
NO_RIDGE = Ridge(0.0, 0.0, "")


def measured(features: Tensor, weight: Tensor, counts: list[int], **options: Any) -> dict[str, Any]:
    """Numbers by name of these train features, of which test has the first two of every class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    first = torch.cat([(labels == c).nonzero()[:2, 0] for c in range(len(counts))])
    splits = {"train": (features, labels), "test": (features[first], labels[first])}
    return run_analysis(Geometry(**options), snapshot_of(splits, LinearClassifier(weight), NO_RIDGE), None)


def minimum(counts: list[int], free_bias: bool) -> tuple[Tensor, Tensor]:
    """H (n, P) and W (C, P) of the limit, from the SVD of the centred label matrix, turned and scaled at will."""
    labels = np.repeat(np.eye(len(counts)), counts, axis=1)
    centred = labels - labels.mean(axis=1 if free_bias else 0, keepdims=True)
    left, scales, right = np.linalg.svd(centred, full_matrices=False)
    rank = len(counts) - 1
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0][:rank]
    root = np.sqrt(scales[:rank])[:, None] * turn
    return torch.tensor(3 * right[:rank].T @ root + 0.7), torch.tensor(0.5 * left[:, :rank] @ root)


@pytest.mark.parametrize(("free_bias", "name", "other"), [(False, "seli", "free_bias"), (True, "free_bias", "seli")])
def test_geometry_is_at_zero_distance_from_the_limit_that_it_is(free_bias: bool, name: str, other: str) -> None:
    features, weight = minimum(COUNTS, free_bias)
    found = measured(features, weight, COUNTS)
    for of in ("means", "classifier"):
        assert found[f"train/geometry/{name}_{of}"] < ROUNDING
        assert found[f"train/geometry/{other}_{of}"] > 1e-2
    assert found[f"test/geometry/{name}_means"] < ROUNDING  # the sizes are those of train on either split
    if name == "seli":
        angle = found["train/geometry/minority_angle_seli"]
        assert found["train/geometry/minority_angle_classifier"] == pytest.approx(angle, rel=ROUNDING)


def test_nc1_of_the_classes_averages_to_the_ratio_and_is_ordered_by_size() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = [5, 30, 10, 5]
    features = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    found = measured(features, torch.randn(4, 6, generator=generator), counts)
    array, labels = features.numpy(), np.repeat(np.arange(4), counts)
    means = np.stack([array[labels == c].mean(0) for c in range(4)])
    variances = [((array[labels == c] - means[c]) ** 2).sum(1).mean() for c in range(4)]
    between = (np.array(counts) / 50) @ ((means - array.mean(0)) ** 2).sum(1)
    values = [found[f"train/geometry/nc1_{place}"] for place in (1, 2, 3, 4)]
    assert values == pytest.approx([variances[c] / between for c in (1, 2, 0, 3)], rel=ROUNDING)
    few = measured(features, torch.randn(4, 6, generator=generator), counts, classes=2)
    assert [name for name in few if "train/geometry/nc1" in name] == ["train/geometry/nc1_1", "train/geometry/nc1_4"]


def test_minority_angle_is_that_of_pairs_of_small_classes() -> None:
    features, weight = minimum(COUNTS, False)
    weight = weight.clone()
    weight[1:] = torch.tensor([[1.0, 0, 0, 0, 0, 0], [1.0, 1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0]])
    found = measured(features, weight, COUNTS)
    assert found["train/geometry/minority_angle_classifier"] == pytest.approx((45 + 45 + 90) / 3, rel=ROUNDING)
    weight[1:] = weight[1] * torch.tensor([[1.0], [2.0], [5.0]])
    assert measured(features, weight, COUNTS)["train/geometry/minority_angle_classifier"] == 0
    assert measured(features, weight, COUNTS)["train/geometry/margin_classifier"] == pytest.approx(0, abs=1e-7)


def test_geometry_of_equal_classes_is_that_of_the_simplex() -> None:
    counts = [7, 7, 7, 7]
    found = measured(*minimum(counts, False), counts)
    names = [f"train/geometry/{kind}_{of}" for kind in ("seli", "free_bias") for of in ("means", "classifier")]
    assert max(found[name] for name in names) < ROUNDING
    assert found["train/geometry/margin_means"] == pytest.approx(4 / 3, rel=ROUNDING)
    assert math.isnan(found["train/geometry/minority_angle_classifier"])
    assert math.isnan(found["train/geometry/minority_angle_seli"])


def test_geometry_of_more_classes_than_features_has_margins_alone() -> None:
    angles = 2 * math.pi * torch.arange(7, dtype=torch.float64) / 7
    polygon = torch.stack([angles.cos(), angles.sin()], dim=1)
    found = measured(polygon.repeat_interleave(3, 0), polygon, [3] * 7)
    assert math.isnan(found["train/geometry/seli_means"])
    assert math.isnan(found["train/geometry/free_bias_classifier"])
    assert found["train/geometry/margin_classifier"] == pytest.approx(one_vs_rest_margin(polygon), rel=ROUNDING)
    assert found["test/geometry/margin_means"] == pytest.approx(1 - math.cos(angles[1]), rel=ROUNDING)
