"""NRC1 to NRC3 against NumPy as printed, γ against a search, the free-features minimum against training."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from drawn_targets import draw_targets as draw
from drawn_targets import random_layer
from scipy.optimize import minimize_scalar
from scipy.stats import ortho_group
from torch import Tensor

from ncexp.collapse import (
    RegressionCollapse,
    RegressionCollapseAccumulator,
    explained_variances,
    free_features_minimum,
    least_squares_map,
    measure_regression_collapse,
    nrc3,
    target_statistics,
)

# Projections and eigenvectors of matrices with condition numbers below 1e3.
ROUNDING = 1e-11


def measured(features: Tensor, targets: Tensor, weight: Tensor) -> RegressionCollapse:
    return measure_regression_collapse(target_statistics(features, targets), weight, features)


def residual(vectors: np.ndarray, columns: np.ndarray) -> float:
    """Ave ‖ṽ − proj(ṽ | columns)‖², ṽ = v/‖v‖: section 3.1 of the paper, by least squares."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    projected = columns @ np.linalg.lstsq(columns, units.T, rcond=None)[0]
    return float(((units.T - projected) ** 2).sum(0).mean())


@pytest.mark.parametrize("num_targets", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nrc1_and_nrc2_equal_the_printed_formulas(num_targets, dtype):
    features, targets = draw(60, 6, num_targets, offset=1)
    features, weight = features.to(dtype), random_layer(num_targets, 6)[0].to(dtype)
    found, rows = measured(features, targets, weight), features.double().numpy()
    principal = np.linalg.svd(rows - rows.mean(0))[2][:num_targets].T
    columns = weight.double().numpy().T
    assert found.nrc1 == pytest.approx(residual(rows, principal), rel=ROUNDING)
    assert found.nrc2 == pytest.approx(residual(rows, columns), rel=ROUNDING)
    assert found.nrc1_centered == pytest.approx(residual(rows - rows.mean(0), principal), rel=ROUNDING)
    assert found.nrc2_centered == pytest.approx(residual(rows - rows.mean(0), columns), rel=ROUNDING)
    sizes = np.linalg.svd(rows - rows.mean(0))[1] ** 2
    np.testing.assert_allclose(
        explained_variances(target_statistics(features, targets)), sizes / sizes.sum(), rtol=1e-10
    )
    assert found.explained_variance == pytest.approx(sizes[:num_targets].sum() / sizes.sum(), rel=ROUNDING)
    bases = np.linalg.qr(principal)[0], np.linalg.qr(columns)[0]
    cosines = np.linalg.svd(bases[0].T @ bases[1])[1]
    assert found.subspace_angle == pytest.approx(math.degrees(math.acos(cosines.min())), rel=1e-9)
    assert found.rank_features == 6


def test_batches_and_merges_do_not_matter():
    features, targets = draw(60, 6, 2, offset=1)
    weight, statistics = random_layer(2, 6)[0], target_statistics(features, targets)
    whole = measure_regression_collapse(statistics, weight, features)
    one, other = (RegressionCollapseAccumulator(statistics, weight) for _ in range(2))
    for rows in features.flip(0).split([0, 1, 40, 19]):
        (one if len(rows) == 40 else other).update(rows)
    one.merge(other)
    for field in fields(whole):
        assert getattr(one.compute(), field.name) == pytest.approx(getattr(whole, field.name), rel=1e-14), field.name


def test_inference_mode_does_not_matter():
    features, targets = draw(30, 4, 2, offset=1)
    statistics, weight = target_statistics(features, targets), random_layer(2, 4)[0]
    with torch.inference_mode():
        accumulator = RegressionCollapseAccumulator(statistics, weight)
        accumulator.update(features[:9])
    accumulator.update(features[9:])
    whole = measure_regression_collapse(statistics, weight, features)
    assert accumulator.compute().nrc1 == pytest.approx(whole.nrc1, rel=1e-14)


def nrc3_at(x: float, weight: np.ndarray, covariance: np.ndarray) -> float:
    variances, vectors = np.linalg.eigh(covariance)
    shifted = (vectors * np.sqrt(variances)) @ vectors.T - x * np.eye(len(covariance))
    gram = weight @ weight.T
    return float(np.linalg.norm(gram / np.linalg.norm(gram) - shifted / np.linalg.norm(shifted)) ** 2)


@pytest.mark.parametrize("seed", range(12))
def test_nrc3_takes_the_best_gamma(seed):
    """γ in the middle, at 0 and at λ_min: no point of a fine grid, and no search, does better."""
    generator = np.random.default_rng(seed)
    size = 2 + seed % 4
    covariance = np.cov(generator.normal(size=(size, 30)) * generator.uniform(0.3, 3, (size, 1)))
    root = np.linalg.cholesky(covariance)
    noise = generator.normal(size=(size, 7)) * 3.0 ** -(seed // 3)
    weight = np.c_[root, np.zeros((size, 7 - size))] + noise
    value, gamma = nrc3(torch.from_numpy(weight), torch.from_numpy(covariance))
    least = np.linalg.eigvalsh(covariance)[0]
    assert 0 <= gamma <= least * (1 + 1e-12)
    assert value == pytest.approx(nrc3_at(math.sqrt(gamma), weight, covariance), rel=1e-9)
    searched = minimize_scalar(nrc3_at, (0, least**0.5), (0, least**0.5), (weight, covariance), "bounded").fun
    grid = min(nrc3_at(x, weight, covariance) for x in np.linspace(0, least**0.5, 2001))
    assert value <= min(grid, searched) * (1 + 1e-12)
    assert value == pytest.approx(min(grid, searched), rel=1e-5)
    given = nrc3(torch.from_numpy(weight), torch.from_numpy(covariance), least / 2)
    assert given == (pytest.approx(nrc3_at(math.sqrt(least / 2), weight, covariance), rel=1e-9), least / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.3])
def test_nrc3_finds_the_gamma_that_made_the_weight(gamma):
    variances, turn = np.array([0.4, 1.0, 2.5]), ortho_group.rvs(3, random_state=0)
    covariance = (turn * variances) @ turn.T
    root = turn * np.sqrt(np.sqrt(variances) - math.sqrt(gamma))
    value, found = nrc3(torch.from_numpy(5 * root), torch.from_numpy(covariance))
    assert value < 1e-28
    assert found == pytest.approx(gamma, rel=1e-10, abs=1e-14)


def test_published_gamma_is_of_another_norm():
    """Thm. F.1's γ* depends on the size of W, which NRC3 does not."""
    covariance, weight = torch.diag(torch.tensor([0.5, 2.0], dtype=torch.float64)), random_layer(2, 4)[0]
    for scale in (0.1, 1.0, 10.0):
        assert nrc3(scale * weight, covariance) == pytest.approx(nrc3(weight, covariance), rel=1e-10)


def test_nrc3_where_nothing_is_to_be_said():
    eye, weight = torch.eye(3, dtype=torch.float64), random_layer(3, 4)[0]
    assert np.isnan(nrc3(weight[:1], eye[:1, :1])).all()  # one target
    assert np.isnan(nrc3(0 * weight, eye)).all()
    assert np.isnan(nrc3(weight, 0 * eye)).all()
    value, gamma = nrc3(weight, 2 * eye)  # every γ gives I/√3
    assert math.isnan(gamma)
    gram = weight @ weight.T
    assert value == pytest.approx(float((gram / gram.norm() - eye / 3**0.5).square().sum()), rel=ROUNDING)
    assert nrc3(weight, torch.diag(torch.tensor([0.0, 1.0, 2.0])))[1] == 0  # a constant target: λ_min = 0


def free_objective(weight, bias, features, targets, ridges):
    residuals = features @ weight.T + (0 if bias is None else bias) - targets
    return (
        residuals.square().sum(1).mean()
        + ridges[0] * weight.square().sum()
        + ridges[1] * features.square().sum(1).mean()
    ) / 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("num_features", "ridges"), [(6, (1e-2, 3e-2)), (2, (1e-2, 1e-2)), (6, (0.9, 0.9)), (3, (20.0, 20.0))]
)
def test_free_features_minimum_is_stationary_and_reached_by_descent(num_features, ridges, bias):
    """More features than targets, fewer, with one target's share below the threshold, with all."""
    targets = draw(12, 4, 3, offset=1)[1]
    least = free_features_minimum(targets, num_features, *ridges, bias)
    parts = [one.clone().requires_grad_() for one in (least.weight, least.features, least.bias) if one is not None]
    value = free_objective(parts[0], parts[2] if bias else None, parts[1], targets, ridges)
    value.backward()
    assert least.loss == pytest.approx(value.item(), rel=1e-12)
    assert max(one.grad.abs().max() for one in parts) < 1e-12
    for seed in range(3):  # none lower, and all there
        reached = descended([one.shape for one in parts], targets, ridges, bias, seed)
        assert reached == pytest.approx(least.loss, rel=1e-9)


def descended(shapes: list[torch.Size], targets: Tensor, ridges: tuple[float, float], bias: bool, seed: int) -> float:
    """The objective after a descent from random weights, features and bias."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    optimizer = torch.optim.LBFGS(
        parts, max_iter=4000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = free_objective(parts[0], parts[2] if bias else None, parts[1], targets, ridges)
        loss.backward()
        return loss

    optimizer.step(closure)
    return closure().item()


@pytest.mark.parametrize("num_targets", [1, 3])
def test_nrc_is_0_at_the_free_features_minimum(num_targets):
    targets = draw(50, 4, num_targets, offset=1)[1]
    least = free_features_minimum(targets, 8, 0.02, 0.03)
    found, statistics = measured(least.features, targets, least.weight), target_statistics(least.features, targets)
    assert max(found.nrc1, found.nrc2, found.nrc1_centered, found.nrc2_centered) < 1e-26
    assert found.explained_variance == pytest.approx(1.0, rel=1e-12)
    assert found.rank_features == num_targets
    assert found.subspace_angle < 1e-12
    # ADGZR24, Cor. 4.2 (iv): m c/2 + √c tr(Σ_Y^{1/2} − √c I), c = λ_W λ_h.
    root = 0.0006**0.5
    deviations = torch.linalg.eigvalsh(statistics.target_covariance).sqrt()
    assert least.loss == pytest.approx(num_targets * 0.0003 + root * float((deviations - root).sum()), rel=1e-12)
    if num_targets > 1:
        assert found.nrc3 < 1e-26
        assert found.gamma == pytest.approx(0.02 * 0.03, rel=1e-9)  # ADGZR24, Cor. 4.2
    # On the central path: the layer is least squares for its features.
    torch.testing.assert_close(least_squares_map(statistics, (0.02, 0.0)).weight, least.weight, rtol=1e-10, atol=1e-12)


def test_scales_below_the_threshold_lose_their_direction():
    targets = torch.diag(torch.tensor([3.0, 1.0, 0.1])).repeat(2, 1) * torch.tensor([[1.0], [-1.0]]).repeat_interleave(
        3, 0
    )
    least = free_features_minimum(targets, 5, 0.3, 0.3)
    assert (least.scales > 0).sum() == 2
    assert torch.linalg.matrix_rank(least.weight) == 2


def test_an_affine_plane_is_collapse_for_centred_features_only():
    least = free_features_minimum(draw(50, 4, 2)[1], 6, 0.02, 0.03)
    targets, moved = draw(50, 4, 2)[1], least.features + torch.tensor([0, 0, 0, 0, 0, 3.0])
    found = measured(moved, targets, least.weight)
    assert found.nrc1_centered < 1e-26
    assert found.nrc2_centered < 1e-26
    assert found.nrc1 > 0.1
    assert found.nrc2 > 0.1


def test_features_without_a_direction_leave_it_undefined():
    features, targets = draw(20, 4, 2)
    weight = random_layer(2, 4)[0]
    features[3] = 0
    found = measured(features, targets, weight)
    assert math.isnan(found.nrc1)
    assert math.isnan(found.nrc2)
    assert found.nrc1_centered > 0
    constant = measured(torch.full((20, 4), 0.1), targets, weight)
    assert math.isnan(constant.nrc1)
    assert math.isnan(constant.nrc1_centered)
    assert math.isnan(constant.explained_variance)
    assert math.isnan(constant.subspace_angle)
    assert constant.rank_features == 0
    assert constant.nrc2 > 0
    single = measured(features[:1], targets[:1], weight)
    assert math.isnan(single.nrc1)
    assert math.isnan(single.nrc3)
    silent = measured(features[:3], targets[:3], 0 * weight)
    assert math.isnan(silent.nrc2)
    assert math.isnan(silent.subspace_angle)


def test_an_example_at_the_mean_has_no_direction():
    """It is 1e-16 away from the mean, by rounding alone."""
    around, targets = draw(6, 4, 2)
    features = 0.7 + torch.cat([around, -around, torch.zeros(1, 4)])
    statistics = target_statistics(features, torch.cat([targets, targets, targets[:1]]))
    found = measure_regression_collapse(statistics, random_layer(2, 4)[0], features)
    assert 0 < (features[-1] - statistics.feature_mean).norm() < 1e-15
    assert math.isnan(found.nrc1_centered)
    assert math.isnan(found.nrc2_centered)
    assert found.nrc1 > 0


def test_bad_input_is_refused():
    features, targets = draw(20, 4, 2)
    statistics, weight = target_statistics(features, targets), random_layer(2, 4)[0]
    for call, message in (
        (lambda: RegressionCollapseAccumulator(statistics, weight[:1]), r"weight: expected shape \(m, P\) = \(2, 4\)"),
        (lambda: RegressionCollapseAccumulator(statistics, weight / 0), "weight: expected finite values"),
        (lambda: measure_regression_collapse(statistics, weight, features[:, :3]), "features: expected width P = 4"),
        (lambda: measure_regression_collapse(statistics, weight, features / 0), "features: expected finite values"),
        (lambda: measure_regression_collapse(statistics, weight, features[:0]), "features: expected at least one"),
        (
            lambda: free_features_minimum(targets[0], 3, 0.1, 0.1),
            r"targets: expected a floating tensor of shape \(n, m\)",
        ),
        (lambda: nrc3(weight, statistics.target_covariance, -0.1), "gamma: expected a finite number >= 0, got -0.1"),
        (lambda: free_features_minimum(targets / 0, 3, 0.1, 0.1), "targets: expected finite values"),
        (lambda: free_features_minimum(targets, 0, 0.1, 0.1), "num_features: expected at least 1, got 0"),
        (lambda: free_features_minimum(targets, 3, 0.0, 0.1), "weight_ridge: expected a finite number > 0"),
        (lambda: free_features_minimum(targets, 3, 0.1, math.inf), "feature_ridge: expected a finite number > 0"),
        (
            lambda: RegressionCollapseAccumulator(target_statistics(features * 1e200, targets), weight),
            "statistics: expected finite second moments",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_rank_counts_what_the_precision_shows():
    """Three units behind a bottleneck, in float32: rounding is no direction."""
    inner, targets = draw(100, 3, 4)
    features = inner.float() @ torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    statistics = target_statistics(features, targets)
    assert measure_regression_collapse(statistics, random_layer(4, 9)[0], features).rank_features == 3
    exact = replace(statistics, feature_eps=1e-16)
    assert measure_regression_collapse(exact, random_layer(4, 9)[0], features).rank_features >= 3
