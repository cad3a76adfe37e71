"""What is computed otherwise where classes are very many gives the same numbers at small sizes."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch.nn.functional import layer_norm

from ncexp.collapse import (
    ClassStatistics,
    LinearClassifier,
    class_statistics,
    decompose_mse,
    distance_to_path,
    least_squares,
    least_squares_classifier,
    normal_equations,
)
from ncexp.collapse.nearest_class_center import Decider

#: Products of the same numbers, associated otherwise.
TOLERANCE = 1e-9


def case(num_classes: int, kind: str, bias: bool) -> tuple[ClassStatistics, LinearClassifier, torch.Tensor]:
    """Unequal classes of 20 features; behind a LayerNorm they lie in 19 dimensions."""
    generator = torch.Generator().manual_seed(num_classes)
    means = torch.randn(num_classes, 20, generator=generator)
    labels = torch.cat([torch.arange(num_classes), torch.randint(num_classes, (400,), generator=generator)])
    features = means[labels] + 0.4 * torch.randn(len(labels), 20, generator=generator)
    if kind == "layer_norm":
        features = layer_norm(features, (20,))
    layer = LinearClassifier(0.1 * means, torch.randn(num_classes, generator=generator) if bias else None)
    return class_statistics(features, labels, num_classes), layer, features


@pytest.mark.parametrize("kind", ["plain", "layer_norm"])
@pytest.mark.parametrize("num_classes", [9, 60])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("bias", [True, False])
def test_products_that_avoid_every_pair_of_classes_agree(
    num_classes: int, kind: str, ridge: float, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics, layer, _ = case(num_classes, kind, bias)
    expected = asdict(decompose_mse(statistics, layer, ridge)) | asdict(distance_to_path(statistics, layer, ridge))
    least_squares._problem.cache_clear()
    for module in (least_squares, normal_equations):
        monkeypatch.setattr(module, "MOST_TOGETHER", 1)
    found = asdict(decompose_mse(statistics, layer, ridge)) | asdict(distance_to_path(statistics, layer, ridge))
    least_squares._problem.cache_clear()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=TOLERANCE, abs=1e-15), name


def test_prediction_angle_of_many_classes_is_that_of_the_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics, layer, features = case(60, "plain", True)
    monkeypatch.setattr(least_squares, "MOST_TOGETHER", 1)
    found = distance_to_path(statistics, layer, 1e-3).prediction_angle
    optimum = least_squares_classifier(statistics, 1e-3)
    mine, best = (one(features).flatten() for one in (layer, optimum))
    cosine = mine @ best / mine.norm() / best.norm()
    assert found == pytest.approx(float(cosine.arccos().rad2deg()), rel=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decider_decides_as_float64_does(dtype: torch.dtype) -> None:
    statistics, layer, features = case(60, "plain", True)
    other, features = least_squares_classifier(statistics, 1e-3), features.to(dtype)
    decide = Decider([layer, other], statistics.class_means)
    exact = features.double()
    nearest = torch.cdist(exact, statistics.class_means, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    expected = torch.stack([layer(exact).argmax(1), other(exact).argmax(1), nearest], 1)
    assert torch.equal(decide(features), expected)
    assert torch.equal(torch.cat([decide(rows) for rows in features.split(7)]), expected)
    assert bool((expected[:, 0] != expected[:, 1]).any() and (expected[:, 1] != expected[:, 2]).any())
