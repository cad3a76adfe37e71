"""The MSE decomposition: the identity, stationarity of what is trained, exact cases; digits: test_fifty_digits.py."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from ncexp.collapse import (
    ClassStatistics,
    LinearClassifier,
    class_statistics,
    decompose_mse,
    distance_to_path,
    least_squares_classifier,
    normal_equations,
    ridge_from_weight_decay,
    simplex_etf,
)

# Linear systems of condition number below 1e4, in float64.
ROUNDING = 1e-11
# What the identity promises, relative to L.
IDENTITY = 1e-12
PARTED = ["loss", "loss_ls", "loss_nc1", "loss_ls_perp"]


def draw(num_classes: int, num_features: int, n: int, spread: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unbalanced classes, off the origin."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (num_classes * torch.rand(n - num_classes, generator=generator) ** 2).long()
    labels = torch.cat([torch.arange(num_classes), drawn])
    means = 1 + torch.randn(num_classes, num_features, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, num_features, generator=generator, dtype=torch.float64)
    return means[labels] + spread * noise, labels


def random_classifier(num_classes: int, num_features: int, bias: bool = True, seed: int = 1) -> LinearClassifier:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_classes, num_features, generator=generator, dtype=torch.float64)
    return LinearClassifier(weight, torch.randn(num_classes, generator=generator).double() if bias else None)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, num_classes).double()


def objective(features: Tensor, labels: Tensor, classifier: LinearClassifier, ridges: tuple[float, float]) -> float:
    """L, example by example."""
    squares = (classifier(features) - one_hot(labels, classifier.num_classes)).square().sum(1).mean()
    penalty = ridges[0] * classifier.weight.square().sum()
    if classifier.bias is not None:
        penalty = penalty + ridges[1] * classifier.bias.square().sum()
    return float(squares + penalty) / 2


def half_sum_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1).mean() / 2


NO_RIDGES = [-1e-4, math.nan, math.inf, (0.0, -1.0), (0.0, 0.0, 0.0)]
LOSSES = {"half sum": (half_sum_loss, lambda C: 1.0), "MSELoss": (torch.nn.MSELoss(), lambda C: 2 / C)}


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4, 5e-2])
@pytest.mark.parametrize("bias", ["decayed", "free", "none"])
@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize(("num_classes", "num_features"), [(4, 6), (7, 3)])
def test_training_objective_is_stationary_at_the_least_squares_classifier(
    num_classes, num_features, loss_name, bias, weight_decay
):
    """A step of the optimizer that trains, on the loss that is trained, leaves W̃_LS where it is."""
    features, labels = draw(num_classes, num_features, 60)
    loss, loss_scale = LOSSES[loss_name]
    ridge = ridge_from_weight_decay(weight_decay, loss_scale(num_classes))
    optimum = least_squares_classifier(
        class_statistics(features, labels, num_classes), (ridge, 0.0) if bias == "free" else ridge, bias != "none"
    )
    layer = torch.nn.Linear(num_features, num_classes, bias=bias != "none", dtype=torch.float64)
    layer.load_state_dict({name: value for name, value in vars(optimum).items() if value is not None})
    decays = {"weight": weight_decay, "bias": 0.0 if bias == "free" else weight_decay}
    groups = [{"params": [p], "weight_decay": decays[name]} for name, p in layer.named_parameters()]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    before = torch.cat([p.detach().flatten().clone() for p in layer.parameters()])
    loss(layer(features), one_hot(labels, num_classes)).backward()
    optimizer.step()
    after = torch.cat([p.detach().flatten() for p in layer.parameters()])
    assert (after - before).abs().max() < ROUNDING
    layer_off = torch.cat([p.grad.flatten() for p in layer.parameters()])
    if weight_decay > 0:
        assert layer_off.abs().max() > 1e-6  # the loss alone is not stationary there: decay and ridge did meet


@pytest.mark.parametrize("ratio", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("ridge", [0.0, 5e-4])
@pytest.mark.parametrize("offset", [2, 100])
def test_identity_and_loss_hold_in_deep_collapse_in_self_duality(offset, ridge, ratio):
    """Simplex class means with an offset, the layer that all but inverts them: L itself is about the ratio."""
    generator = torch.Generator().manual_seed(0)
    corners = simplex_etf(10, 64)
    labels = torch.arange(2000) % 10
    noise = (ratio / 64) ** 0.5 * torch.randn(2000, 64, generator=generator, dtype=torch.float64)
    statistics = class_statistics(offset + corners[labels] + noise, labels, 10)
    weight = 0.9 * corners * (1 + ratio**0.5 * torch.randn(10, 1, generator=generator).double())
    classifier = LinearClassifier(weight, 0.1 - weight @ statistics.global_mean)
    measured = decompose_mse(statistics, classifier, ridge)
    assert measured.residual < IDENTITY
    # L itself, from the same statistics and layer in 64-bit mantissas.
    weight, bias, means, within = (
        x.numpy().astype(np.longdouble)
        for x in (weight, classifier.bias, statistics.class_means, statistics.within_class_covariance)
    )
    misfit = ((means @ weight.T + bias - np.eye(10)) ** 2).sum(1).mean()
    penalty = ridge * ((weight**2).sum() + (bias**2).sum())
    assert measured.loss == pytest.approx(
        float(((weight @ within) * weight).sum() + misfit + penalty) / 2, rel=IDENTITY, abs=0
    )
    if ridge == 0:
        assert measured.loss < 10 * ratio


@pytest.mark.parametrize(
    ("ridge", "slope", "bias"),
    # Σ_B = (1/9) on the simplex's span: W = (1/10) M̄ᵀ/(1/9 + λ_W), b = (1/10)/(1 + λ_b).
    [(0.0, 0.9, 0.1), ((0.0, 0.01), 0.9, 0.1 / 1.01), (0.01, 0.1 / (1 / 9 + 0.01), 0.1 / 1.01)],
)
def test_exact_collapse_is_solved_exactly(ridge, slope, bias):
    """No within-class variation: the layer interpolates the corners, and with a ridge it is the shrunken dual."""
    corners = simplex_etf(10, 30)
    statistics = ClassStatistics(
        torch.full((10,), 5), corners, torch.zeros(30, 30).double(), torch.zeros(10, dtype=torch.float64)
    )
    found = least_squares_classifier(statistics, ridge)
    torch.testing.assert_close(found.weight, slope * corners, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(found.bias, torch.full((10,), bias, dtype=torch.float64), rtol=0, atol=ROUNDING)
    assert ridge != 0 or decompose_mse(statistics, found, 0.0).loss < 1e-29


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dead", [0, 2])
@pytest.mark.parametrize(("num_classes", "num_features", "n"), [(3, 40, 25), (4, 30, 33), (5, 9, 12)])
def test_least_squares_is_of_minimum_norm_where_features_are_dependent(num_classes, num_features, n, dead, bias):
    features, labels = draw(num_classes, num_features, n)
    features[:, :dead] = 0
    measured = least_squares_classifier(class_statistics(features, labels, num_classes), 0.0, bias)
    extended = torch.cat([features, torch.ones(n, 1).double()], 1) if bias else features
    expected = np.linalg.lstsq(extended.numpy(), one_hot(labels, num_classes).numpy(), rcond=1e-10)[0].T
    np.testing.assert_allclose(measured.weight.numpy(), expected[:, :num_features], rtol=0, atol=1e-8)
    if bias:
        np.testing.assert_allclose(measured.bias.numpy(), expected[:, -1], rtol=0, atol=1e-8)


def test_decomposition_is_undefined_where_features_overflow():
    features, labels = draw(4, 6, 80)
    tiny = class_statistics(1e-157 * features, labels, 4)
    assert all(math.isnan(term) for term in vars(decompose_mse(tiny, random_classifier(4, 6), 0.0)).values())
    statistics = class_statistics(1e200 * features, labels, 4)
    assert all(math.isnan(term) for term in vars(decompose_mse(statistics, random_classifier(4, 6), 1e-3)).values())
    with pytest.raises(ValueError, match="statistics: expected finite second moments"):
        least_squares_classifier(statistics, 1e-3)


def test_residual_shows_a_loss_that_does_not_belong():
    measured = decompose_mse(class_statistics(*draw(4, 6, 80), 4), random_classifier(4, 6), 0.0)
    terms = vars(measured) | {"loss": measured.loss * 1.01}
    assert type(measured)(**terms).residual == pytest.approx(0.01 / 1.01, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "values", "message"),
    [
        (lambda s, value: ridge_from_weight_decay(value, 1.0), [-1e-4, math.inf, math.nan], "weight_decay: "),
        (lambda s, value: ridge_from_weight_decay(1e-4, value), [0.0, -1.0, math.inf, math.nan], "loss_scale: "),
        (least_squares_classifier, NO_RIDGES, "ridge: expected a finite number >= 0, or a pair"),
        (lambda s, value: decompose_mse(s, random_classifier(4, 6), value), NO_RIDGES, "ridge: expected a finite"),
        (
            lambda s, value: decompose_mse(s, value, 0.0),
            [random_classifier(4, 5)],
            r"classifier: .* \(C, P\) = \(4, 6\)",
        ),
    ],
)
def test_least_squares_refusals(call, values, message):
    statistics = class_statistics(*draw(4, 6, 80), 4)
    for value in values:
        with pytest.raises(ValueError, match=message):
            call(statistics, value)


@pytest.mark.parametrize("size", [1.0, 1e8])
def test_loss_of_more_classes_than_features_is_that_of_fractions(size, monkeypatch):
    """Weights that cancel on two near copies: their products are 1e16 times the residuals."""
    monkeypatch.setattr(normal_equations, "_BLOCK", 14)  # two of seven classes at a time
    features, labels = draw(7, 2, 21)
    features[:, 1] = features[:, 0] * (1 - 1 / size) if size > 1 else features[:, 1]
    statistics, classifier = class_statistics(features, labels, 7), random_classifier(7, 2)
    weight = classifier.weight + size * torch.tensor([1.0, -1.0]).double()
    fit = normal_equations.class_mean_fit(statistics, LinearClassifier(weight, classifier.bias), torch.eye(7).double())
    means, rows, bias = ([*map(exactly, each)] for each in (statistics.class_means, weight, classifier.bias[:, None]))
    squares = Fraction(0)
    for c, mean in enumerate(means):
        logits = [
            sum(w * m for w, m in zip(row, mean, strict=True)) + own[0] for row, own in zip(rows, bias, strict=True)
        ]
        squares += int(statistics.counts[c]) * sum((logit - (k == c)) ** 2 for k, logit in enumerate(logits))
    assert float(fit.squares) == pytest.approx(float(squares / len(labels)), rel=IDENTITY)


def exactly(row: Tensor) -> list[Fraction]:
    return [Fraction(value) for value in row.tolist()]


def test_path_distance_is_zero_on_the_path_and_keeps_its_digits_near_it():
    """Scaled predictions have angle 0; a turn by ε has ε, far below what a cosine resolves."""
    statistics = class_statistics(*draw(4, 5, 60), 4)
    best = least_squares_classifier(statistics, 0.01)
    on_path = distance_to_path(statistics, best, 0.01)
    assert max(on_path.perp_share, on_path.classifier_distance, on_path.prediction_angle) < 1e-9
    angles, rolled = [], best.weight.roll(1, 0)
    for size, turned in ((2, best.weight), (1e-9, rolled), (2e-9, rolled)):
        near = LinearClassifier(best.weight + size * turned, best.bias * (1 + size))
        angles.append(distance_to_path(statistics, near, 0.01).prediction_angle)
    assert angles[0] == pytest.approx(0, abs=1e-12)
    assert angles[2] == pytest.approx(2 * angles[1], rel=1e-5)
    nothing = distance_to_path(statistics, LinearClassifier(torch.zeros(4, 5), torch.zeros(4)), 0.01)
    assert math.isnan(nothing.prediction_angle)
    assert nothing.classifier_distance == pytest.approx(1, rel=IDENTITY)


@pytest.mark.parametrize("spread", [1e-2, 1e-5])
def test_parts_add_up_in_collapse_where_one_is_a_trace_of_the_other(spread):
    features, labels = draw(5, 8, 60, spread)
    measured = decompose_mse(class_statistics(features, labels, 5), random_classifier(5, 8), 1e-2)
    assert 0 < measured.loss_nc1_data < 10 * spread**2 < measured.loss_nc1_decay
    for term in PARTED:
        parts = getattr(measured, f"{term}_data") + getattr(measured, f"{term}_decay")
        assert parts == pytest.approx(getattr(measured, term), rel=ROUNDING)


def test_without_decay_the_data_part_is_all_for_dependent_features():
    features, labels = draw(4, 3, 40)
    measured = decompose_mse(class_statistics(features[:, [0, 1, 2, 0]], labels, 4), random_classifier(4, 4), 0.0)
    for term in PARTED:
        assert (getattr(measured, f"{term}_data"), getattr(measured, f"{term}_decay")) == (getattr(measured, term), 0)


def test_linear_classifier_is_a_snapshot_in_float64():
    layer = torch.nn.Linear(3, 2).double()
    classifier = LinearClassifier(layer.weight, layer.bias)
    features = torch.ones(4, 3, dtype=torch.bfloat16)
    before = classifier(features)
    assert torch.equal(before, layer(features.double()))
    torch.nn.init.zeros_(layer.weight)
    assert torch.equal(classifier(features), before)
    assert not before.requires_grad
    assert torch.equal(classifier.to("cpu").weight, classifier.weight)
    assert torch.equal(LinearClassifier(classifier.weight)(features), before - classifier.bias)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.zeros(1, 3), None, r"weight: expected a floating \(C, P\) tensor with C >= 2, got \(1, 3\)"),
        (torch.zeros(2, 3, dtype=torch.int64), None, "weight: expected a floating"),
        (torch.zeros(2, 3), torch.zeros(3), r"bias: expected shape \(2,\)"),
        (torch.full((2, 3), torch.nan), None, "weight: expected finite values"),
        (torch.zeros(2, 3), torch.full((2,), torch.inf), "bias: expected finite values"),
    ],
)
def test_linear_classifier_refusals(weight, bias, message):
    with pytest.raises(ValueError, match=message):
        LinearClassifier(weight, bias)
