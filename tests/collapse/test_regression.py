"""Least squares of any targets: NumPy on the examples, autograd, the identity, classes as a special case."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_targets import draw_targets as draw
from drawn_targets import random_layer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score
from torch import Tensor

from ncexp.collapse import (
    LinearClassifier,
    class_statistics,
    decompose_mse,
    decompose_regression,
    least_squares_map,
    target_errors,
    target_statistics,
)

# Relative; condition numbers of a few hundred, and NumPy's own rounding.
ROUNDING = 1e-9
# Relative: what two ways through the same float64 moments differ by.
LAST_DIGITS = 1e-11
RIDGES = [0.0, 1e-3, (1e-3, 0.0), (0.0, 0.2), (0.1, 0.3)]


def solved(features: np.ndarray, targets: np.ndarray, ridges: tuple[float, float], bias: bool) -> np.ndarray:
    """[W, b] of least norm among the minimisers, by NumPy's lstsq on the examples and on rows for the penalty."""
    n, width = features.shape
    extended = np.c_[features, np.ones(n)] if bias else features
    penalty = np.diag(np.sqrt(n * np.array([ridges[0]] * width + [ridges[1]] * bias)))
    rows, right = np.r_[extended, penalty], np.r_[targets, np.zeros((len(penalty), targets.shape[1]))]
    return np.linalg.lstsq(rows, right, rcond=1e-11)[0].T


def objective(features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, ridges: tuple[float, float]):
    """L, example by example."""
    outputs = features @ weight.T + (0 if bias is None else bias)
    penalty = ridges[0] * weight.square().sum() + (0 if bias is None else ridges[1] * bias.square().sum())
    return ((outputs - targets).square().sum(1).mean() + penalty) / 2


def pair(ridge) -> tuple[float, float]:
    return ridge if isinstance(ridge, tuple) else (ridge, ridge)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(2, 40),
    num_features=st.integers(1, 8),
    num_targets=st.integers(1, 5),
    ridge=st.sampled_from(RIDGES),
    bias=st.booleans(),
    offset=st.sampled_from([0.0, 1.0, 30.0]),
    duplicates=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_random_problems_equal_numpy(n, num_features, num_targets, ridge, bias, offset, duplicates, seed):
    features, targets = draw(n, num_features, num_targets, offset, seed)
    if duplicates:
        features = torch.cat([features, 2 * features[:, :1]], 1)
    ridges, statistics = pair(ridge), target_statistics(features, targets)
    layer, best = least_squares_map(statistics, ridge, bias), solved(features.numpy(), targets.numpy(), ridges, bias)
    width = features.shape[1]
    best_bias = torch.from_numpy(best[:, width]) if bias else None
    least = float(objective(features, targets, torch.from_numpy(best[:, :width]), best_bias, ridges))
    size = float(targets.square().sum(1).mean()) / 2
    mine = float(objective(features, targets, layer.weight, layer.bias, ridges))
    assert mine == pytest.approx(least, rel=ROUNDING, abs=1e-13 * size)
    weight, own_bias = random_layer(num_targets, width, bias, seed)
    found = decompose_regression(statistics, weight, own_bias, ridge)
    loss = float(objective(features, targets, weight, own_bias, ridges))
    assert found.loss == pytest.approx(loss, rel=ROUNDING)
    assert found.loss_ls == pytest.approx(least, rel=ROUNDING, abs=1e-13 * size)
    assert found.loss_ls_perp == pytest.approx(loss - least, rel=ROUNDING, abs=1e-12 * loss)
    assert found.loss_ls_span + found.loss_ls_spread == pytest.approx(found.loss_ls, rel=ROUNDING, abs=1e-13 * size)
    assert abs(found.loss - found.loss_ls - found.loss_ls_perp) <= found.loss_rounding
    assert found.residual < ROUNDING


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layer_is_the_one_of_least_norm(ridge, bias, dtype):
    """At full rank, and with a copy of a feature, a multiple of one and a constant, where many layers are optimal."""
    features, targets = (one.to(dtype) for one in draw(60, 4, 3, offset=2))
    copies = torch.cat([features, features[:, :1], 4 * features[:, 1:2], torch.full((60, 1), 3, dtype=dtype)], 1)
    for inputs in (features, copies):
        layer = least_squares_map(target_statistics(inputs, targets), ridge, bias)
        best = solved(inputs.double().numpy(), targets.double().numpy(), pair(ridge), bias)
        np.testing.assert_allclose(layer.weight.numpy(), best[:, : inputs.shape[1]], rtol=0, atol=ROUNDING)
        if bias:
            np.testing.assert_allclose(layer.bias.numpy(), best[:, -1], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("bias", [True, False])
def test_training_objective_is_stationary_at_the_layer(ridge, bias):
    features, targets = draw(50, 6, 3, offset=2)
    layer = least_squares_map(target_statistics(features, targets), ridge, bias)
    parameters = [one.clone().requires_grad_() for one in layer if one is not None]
    objective(features, targets, parameters[0], parameters[1] if bias else None, pair(ridge)).backward()
    assert max(one.grad.abs().max() for one in parameters) < 1e-12


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("counts", [[20] * 5, [5, 40, 11, 30, 14]])
def test_one_hot_targets_give_back_the_terms_of_classes(ridge, bias, counts):
    """HPD22's Prop. 1 and Thm. 1, balanced; and the same for classes of any size, with L_NC1 and L_NC2/3."""
    labels = torch.arange(5).repeat_interleave(torch.tensor(counts))
    generator = torch.Generator().manual_seed(2)
    means = 1 + torch.randn(5, 8, generator=generator, dtype=torch.float64)
    features = means[labels] + 0.3 * torch.randn(100, 8, generator=generator, dtype=torch.float64)
    weight, own_bias = random_layer(5, 8, bias)
    statistics = target_statistics(features, torch.nn.functional.one_hot(labels, 5).double())
    found = decompose_regression(statistics, weight, own_bias, ridge)
    classes = decompose_mse(class_statistics(features, labels, 5), LinearClassifier(weight, own_bias), ridge)
    same = {"loss_ls_span": "loss_nc23", "loss_ls_spread": "loss_nc1"}
    for name, value in vars(found).items():
        if name != "loss_rounding":
            assert value == pytest.approx(getattr(classes, same.get(name, name)), rel=LAST_DIGITS), name
    assert found.residual < 1e-14


@pytest.mark.parametrize("ridge", [0.0, (1e-3, 0.0), 1e-3])
def test_identity_holds_for_singular_moments(ridge):
    """More features than examples, duplicates, a dead unit; a layer with much weight on what reads nothing."""
    features, targets = draw(5, 9, 2, offset=1)
    features = torch.cat([features, features[:, :2], torch.zeros(5, 1)], 1)
    weight, bias = random_layer(2, 12)
    found = decompose_regression(target_statistics(features, targets), 100 * weight, bias, ridge)
    loss = float(objective(features, targets, 100 * weight, bias, pair(ridge)))
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.residual < 1e-12
    size = float(targets.square().sum(1).mean())
    # Five examples in nine dimensions are fitted exactly where nothing is penalised.
    assert (abs(found.loss_ls) < 1e-12 * size) == (ridge == 0.0)


def test_means_far_from_the_spread_cost_no_digit_of_the_losses():
    features, targets = draw(200, 5, 3)
    shift, weight, bias = 2.0**20, *random_layer(3, 5)
    features, targets = (features * 2**20).round() / 2**20, (targets * 2**20).round() / 2**20  # so that sums are exact
    near = decompose_regression(target_statistics(features, targets), weight, bias, (1e-2, 0.0))
    statistics = target_statistics(features + shift, targets + shift)
    far = decompose_regression(statistics, weight, bias + shift - shift * weight.sum(1), (1e-2, 0.0))
    for name in ("loss_ls", "loss_ls_span", "loss_ls_spread", "loss_ls_data", "loss_ls_decay"):
        assert getattr(far, name) == pytest.approx(getattr(near, name), rel=1e-12), name
    # W h̄ + b − ȳ is known to ε · 1e6 only.
    assert far.loss == pytest.approx(near.loss, rel=1e-8)
    assert abs(far.loss - far.loss_ls - far.loss_ls_perp) <= far.loss_rounding


def test_badly_scaled_targets_and_features_are_told_apart():
    features, targets = draw(100, 4, 3)
    scales, units = features.new_tensor([1e-6, 1.0, 1e6]), features.new_tensor([1e-5, 1e5, 1.0, 10.0])
    plain = target_errors(
        target_statistics(features, targets), *least_squares_map(target_statistics(features, targets), 0.0)
    )
    statistics = target_statistics(features * units, targets * scales)
    scaled = target_errors(statistics, *least_squares_map(statistics, 0.0))
    np.testing.assert_allclose(scaled.r_squared, plain.r_squared, rtol=1e-11)
    np.testing.assert_allclose(scaled.mean_squared_errors, plain.mean_squared_errors * scales**2, rtol=1e-11)


def test_rank_deficient_float32_features_lose_to_no_layer():
    """Behind a bottleneck of three units rounding fills all directions; it is left out, and L_LS stays below L."""
    generator = torch.Generator().manual_seed(3)
    inner, targets = draw(400, 3, 2)
    features = (inner.float() @ torch.randn(3, 20, generator=generator)).contiguous()
    statistics = target_statistics(features, targets)
    layer = least_squares_map(statistics, 0.0)
    assert layer.weight.norm() < 10  # a layer that reads rounding has weights of 1e6
    best = torch.from_numpy(solved(inner.numpy(), targets.numpy(), (0, 0), True))
    ideal = objective(inner, targets, best[:, :3], best[:, 3], (0, 0))
    found = decompose_regression(statistics, *random_layer(2, 20), 0.0)
    assert found.loss_ls <= float(ideal) + found.loss_rounding
    assert found.loss_ls_perp >= 0
    assert abs(found.loss - found.loss_ls - found.loss_ls_perp) <= found.loss_rounding


def test_errors_by_target_equal_scikit_learn():
    features, targets = draw(80, 4, 3, offset=7)
    weight, bias = random_layer(3, 4)
    outputs = features @ weight.T + bias
    errors = target_errors(target_statistics(features, targets), weight, bias)
    np.testing.assert_allclose(errors.mean_squared_errors, (outputs - targets).square().mean(0), rtol=1e-12)
    np.testing.assert_allclose(errors.r_squared, r2_score(targets, outputs, multioutput="raw_values"), rtol=1e-11)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1])
def test_r_squared_of_a_constant_target_is_undefined(value):
    """scikit-learn answers 0, or 1 for an exact fit."""
    features, targets = draw(30, 2, 2)
    targets[:, 1] = value
    errors = target_errors(target_statistics(features, targets), *random_layer(2, 2))
    assert errors.r_squared.isnan().tolist() == [False, True]


def test_one_example_is_fitted_by_the_bias():
    features, targets = draw(1, 3, 2, offset=4)
    layer = least_squares_map(target_statistics(features, targets), 0.0)
    # Of all layers through one point the shortest has [W, b] along [h, 1].
    torch.testing.assert_close(features @ layer.weight.T + layer.bias, targets, rtol=1e-12, atol=0)
    found = decompose_regression(target_statistics(features, targets), *random_layer(2, 3), 0.0)
    assert found.loss_ls == pytest.approx(0, abs=1e-13)
    assert found.residual < 1e-12


def test_constant_features_leave_the_variance_of_the_targets():
    targets = draw(40, 1, 2, offset=3)[1]
    statistics = target_statistics(torch.full((40, 4), 0.1, dtype=torch.float64), targets)
    found = decompose_regression(statistics, *random_layer(2, 4), 0.0)
    assert found.loss_ls == pytest.approx(float(targets.var(0, correction=0).sum()) / 2, rel=1e-12)


def test_overflow_is_recorded_as_undefined_and_not_solved():
    features, targets = draw(6, 2, 1)
    statistics = target_statistics(features * 1e200, targets)
    assert all(math.isnan(value) for value in vars(decompose_regression(statistics, *random_layer(1, 2), 0.0)).values())
    with pytest.raises(ValueError, match="statistics: expected finite second moments"):
        least_squares_map(statistics, 0.0)


@pytest.mark.parametrize("ridge", [-1.0, math.nan, math.inf, (0.1,), (0.1, -1.0)])
def test_ridge_without_meaning_is_refused(ridge):
    with pytest.raises(ValueError, match="ridge: expected a finite number >= 0"):
        least_squares_map(target_statistics(*draw(6, 2, 1)), ridge)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.zeros(2, 2), None, r"weight: expected a floating tensor of shape \(m, P\) = \(1, 2\)"),
        (torch.zeros(1, 2, dtype=torch.int64), None, "weight: expected a floating tensor"),
        (torch.zeros(1, 2), torch.zeros(2), r"bias: expected shape \(1,\), got \(2,\)"),
        (torch.tensor([[1.0, math.nan]]), None, "weight: expected finite values"),
        (torch.zeros(1, 2), torch.tensor([math.inf]), "bias: expected finite values"),
    ],
)
def test_layer_of_another_shape_is_refused(weight, bias, message):
    statistics = target_statistics(*draw(6, 2, 1))
    for call in (
        lambda: decompose_regression(statistics, weight, bias, 0.0),
        lambda: target_errors(statistics, weight, bias),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_rounding_of_the_dtype_decides_what_is_known():
    """The same features, said to be float64 and bfloat16: a direction of deviation 1e-4 is noise of the second."""
    generator = torch.Generator().manual_seed(5)
    one = torch.randn(100, 1, generator=generator, dtype=torch.float64)
    small = 1e-4 * torch.randn(100, 1, generator=generator, dtype=torch.float64)
    statistics = target_statistics(torch.cat([one, one + small], 1), small)
    assert least_squares_map(statistics, 0.0).weight.abs().max() == pytest.approx(1.0, rel=1e-5)
    coarse = replace(statistics, feature_eps=torch.finfo(torch.bfloat16).eps)
    assert least_squares_map(coarse, 0.0).weight.abs().max() < 1e-3
