"""The losses against torch's own, and what a loss is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ncexp.training import objective_of
from ncexp.training.losses import MSE, CrossEntropy, Focal, LabelSmoothing, RescaledMSE

#: float64 sums of some dozens of terms.
ROUNDING = 1e-12


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 5, generator=generator, dtype=torch.float64), torch.randint(5, (12,), generator=generator)


def test_mse_is_half_the_squared_distance_summed_over_classes(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    squares = sum((logits[i, c].item() - float(c == labels[i])) ** 2 for i in range(12) for c in range(5))
    assert MSE(5, scale=3.0)(logits, labels).item() == pytest.approx(3 * squares / 2 / 12, rel=ROUNDING)


def test_mse_scale_two_over_c_is_torch_mse_loss(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    loss = MSE(5, scale="2/C")
    expected = torch.nn.MSELoss()(logits, functional.one_hot(labels, 5).double())
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=ROUNDING)
    assert loss.half_mse_scale == 2 / 5


def test_cross_entropy_is_torchs_and_no_multiple_of_the_mse(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    expected = -torch.log_softmax(logits, 1)[torch.arange(12), labels].mean()
    assert CrossEntropy(5)(logits, labels).item() == pytest.approx(expected.item(), rel=ROUNDING)
    assert CrossEntropy.half_mse_scale is None


@pytest.mark.parametrize(("scale", "factor"), [(1.0, 1 / 2), ("2/C", 1 / 5)])
def test_rescaled_mse_is_hui_and_belkins(batch: tuple[torch.Tensor, torch.Tensor], scale: str, factor: float) -> None:
    logits, labels = batch
    terms = [
        15.0 * (logits[i, c].item() - 30.0) ** 2 if c == labels[i] else logits[i, c].item() ** 2
        for i in range(12)
        for c in range(5)
    ]
    loss = RescaledMSE(5, target=30.0, weight=15.0, scale=scale)
    assert loss(logits, labels).item() == pytest.approx(factor * sum(terms) / 12, rel=ROUNDING)


def test_rescaled_mse_with_ones_is_the_mse(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    rescaled, plain = RescaledMSE(5, target=1.0, weight=1.0), MSE(5, scale="2/C")
    assert rescaled(logits, labels).item() == pytest.approx(plain(logits, labels).item(), rel=ROUNDING)
    assert rescaled.half_mse_scale == plain.half_mse_scale


@pytest.mark.parametrize(("target", "weight"), [(2.0, 1.0), (1.0, 2.0)])
def test_rescaled_mse_without_one_hot_targets_has_no_scale_for_the_decomposition(target: float, weight: float) -> None:
    assert RescaledMSE(5, target=target, weight=weight).half_mse_scale is None


def test_label_smoothing_is_cross_entropy_to_the_smoothed_targets(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    targets = 0.8 * functional.one_hot(labels, 5).double() + 0.2 / 5
    expected = -(targets * torch.log_softmax(logits, 1)).sum() / 12
    assert LabelSmoothing(5, smoothing=0.2)(logits, labels).item() == pytest.approx(expected.item(), rel=ROUNDING)
    assert LabelSmoothing.half_mse_scale is None


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_weighs_by_the_missing_probability(batch: tuple[torch.Tensor, torch.Tensor], gamma: float) -> None:
    logits, labels = batch
    true = torch.softmax(logits, 1)[torch.arange(12), labels]
    expected = -((1 - true) ** gamma * true.log()).mean()
    assert Focal(5, gamma=gamma)(logits, labels).item() == pytest.approx(expected.item(), rel=ROUNDING)
    assert Focal.half_mse_scale is None


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("margin", [0.0, 30.0, 300.0])
def test_focal_has_a_finite_gradient_however_certain_the_network_is(gamma: float, margin: float) -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = Focal(3, gamma=gamma)(logits + margin * torch.eye(3)[:2], torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def with_features(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels) + 0.1 * features.square().mean()


def with_features_by_name(logits: Tensor, labels: Tensor, *, features: Tensor) -> Tensor:
    return with_features(logits, labels, features)


class WithFeatures:
    def __call__(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        return with_features(logits, labels, features)


class ModuleWithFeatures(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        return with_features(logits, labels, features)


@pytest.mark.parametrize("loss", [with_features, with_features_by_name, WithFeatures(), ModuleWithFeatures()])
def test_objective_gives_features_to_a_loss_that_asks_for_them(
    loss: Callable[..., Tensor], batch: tuple[Tensor, Tensor]
) -> None:
    features = torch.arange(36, dtype=torch.float64).reshape(12, 3)
    expected = functional.cross_entropy(*batch).item() + 0.1 * sum(k * k for k in range(36)) / 36
    assert objective_of(loss)(*batch, features).item() == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("loss", [MSE(5), nn.CrossEntropyLoss()])
def test_objective_keeps_features_from_a_loss_that_does_not(
    loss: Callable[..., Tensor], batch: tuple[Tensor, Tensor]
) -> None:
    assert torch.equal(objective_of(loss)(*batch, torch.ones(12, 3)), loss(*batch))
