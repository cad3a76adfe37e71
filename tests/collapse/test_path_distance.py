"""The distance to the central path against brute force on the predictions themselves."""

import math

import pytest
import torch

from ncexp.collapse import LinearClassifier, class_statistics, distance_to_path, least_squares_classifier

RIDGE = 0.01
#: Sums of 60 float64 terms in another order.
ROUNDING = 1e-12


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3.0


@pytest.fixture
def classifier() -> LinearClassifier:
    generator = torch.Generator().manual_seed(1)
    return LinearClassifier(torch.randn(4, 5, generator=generator), torch.randn(4, generator=generator))


LABELS = torch.arange(60) % 4


@pytest.mark.parametrize("bias", [True, False])
def test_path_distance_agrees_with_predictions(features, classifier, bias) -> None:
    classifier = classifier if bias else LinearClassifier(classifier.weight)
    statistics = class_statistics(features, LABELS, 4)
    best = least_squares_classifier(statistics, RIDGE, bias=bias)
    mine, optimal = classifier(features).flatten(), best(features).flatten()
    angle = math.degrees(math.acos(float(mine @ optimal / mine.norm() / optimal.norm())))
    gap = (classifier.weight - best.weight).square().sum()
    size = best.weight.square().sum()
    if bias:
        gap, size = gap + (classifier.bias - best.bias).square().sum(), size + best.bias.square().sum()
    distance = distance_to_path(statistics, classifier, RIDGE)
    assert distance.prediction_angle == pytest.approx(angle, rel=1e-9)  # acos loses digits, not ours
    assert distance.classifier_distance == pytest.approx(float((gap / size).sqrt()), rel=ROUNDING)
    assert 0 < distance.perp_share < 1


def test_path_distance_is_zero_on_the_path(features) -> None:
    statistics = class_statistics(features, LABELS, 4)
    distance = distance_to_path(statistics, least_squares_classifier(statistics, RIDGE), RIDGE)
    assert distance.perp_share < ROUNDING
    assert distance.classifier_distance < ROUNDING
    assert distance.prediction_angle < 1e-9


def test_path_distance_angle_keeps_its_digits_near_the_path(features) -> None:
    """Scaled predictions have angle 0; a turn by ε has ε, far below what a cosine resolves."""
    statistics = class_statistics(features, LABELS, 4)
    best = least_squares_classifier(statistics, RIDGE)
    assert distance_to_path(
        statistics, LinearClassifier(3 * best.weight, 3 * best.bias), RIDGE
    ).prediction_angle == pytest.approx(0, abs=1e-12)
    turn = LinearClassifier(best.weight.roll(1, 0), best.bias.roll(1, 0))
    angles = []
    for size in (1e-9, 2e-9):
        turned = LinearClassifier(best.weight + size * turn.weight, best.bias + size * turn.bias)
        angles.append(distance_to_path(statistics, turned, RIDGE).prediction_angle)
    assert angles[1] == pytest.approx(2 * angles[0], rel=1e-5)


def test_path_distance_of_a_layer_that_predicts_nothing_has_no_angle(features) -> None:
    statistics = class_statistics(features, LABELS, 4)
    distance = distance_to_path(statistics, LinearClassifier(torch.zeros(4, 5), torch.zeros(4)), RIDGE)
    assert math.isnan(distance.prediction_angle)
    assert distance.classifier_distance == pytest.approx(1, rel=ROUNDING)
