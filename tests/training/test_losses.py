"""The losses against torch's own, and what a loss is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Compose
from torch import Tensor, nn
from torch.nn import functional

import ncexp
from ncexp.config import ConfigError, check
from ncexp.training import assemble, objective_of, refuse_other_than_scalar
from ncexp.training.losses import (
    MSE,
    CrossEntropy,
    Focal,
    Huber,
    LabelSmoothing,
    RescaledMSE,
    SquaredError,
    is_mean_of_targets,
)

Batch = tuple[Tensor, Tensor]
#: float64 sums of some dozens of terms.
ROUNDING = 1e-12


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 5, generator=generator, dtype=torch.float64), torch.randint(5, (12,), generator=generator)


def test_mse_is_half_the_squared_distance_summed_over_classes(batch: Batch) -> None:
    logits, labels = batch
    squares = sum((logits[i, c].item() - float(c == labels[i])) ** 2 for i in range(12) for c in range(5))
    assert MSE(5, scale=3.0)(logits, labels).item() == pytest.approx(3 * squares / 2 / 12, rel=ROUNDING)


def test_mse_scale_two_over_c_is_torch_mse_loss(batch: Batch) -> None:
    logits, labels = batch
    loss = MSE(5, scale="2/C")
    expected = torch.nn.MSELoss()(logits, functional.one_hot(labels, 5).double())
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=ROUNDING)
    assert loss.half_mse_scale == 2 / 5


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    targets = 0.8 * functional.one_hot(labels, 5).double() + 0.2 / 5
    return -(targets * torch.log_softmax(logits, 1)).sum() / 12


def focal(gamma: float, logits: Tensor, labels: Tensor) -> Tensor:
    true = torch.softmax(logits, 1)[torch.arange(12), labels]
    return -((1 - true) ** gamma * true.log()).mean()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (CrossEntropy(5), lambda z, y: -torch.log_softmax(z, 1)[torch.arange(12), y].mean()),
        (LabelSmoothing(5, smoothing=0.2), smoothed),
        *((Focal(5, gamma=gamma), partial(focal, gamma)) for gamma in (0.0, 0.5, 2.0)),
    ],
)
def test_loss_is_its_formula_and_no_multiple_of_the_mse(loss: Any, expected: Any, batch: Batch) -> None:
    assert loss(*batch).item() == pytest.approx(expected(*batch).item(), rel=ROUNDING)
    assert loss.half_mse_scale is None


@pytest.mark.parametrize(("scale", "factor"), [(1.0, 1 / 2), ("2/C", 1 / 5)])
def test_rescaled_mse_is_hui_and_belkins(batch: Batch, scale: str, factor: float) -> None:
    logits, labels = (one.numpy() for one in batch)
    weight, target = np.ones((12, 5)), np.zeros((12, 5))
    weight[np.arange(12), labels], target[np.arange(12), labels] = 15.0, 30.0
    loss = RescaledMSE(5, target=30.0, weight=15.0, scale=scale)
    expected = factor * (weight * (logits - target) ** 2).sum() / 12
    assert loss(*batch).item() == pytest.approx(expected, rel=ROUNDING)


def test_rescaled_mse_with_ones_is_the_mse(batch: Batch) -> None:
    rescaled, plain = RescaledMSE(5, target=1.0, weight=1.0), MSE(5, scale="2/C")
    assert rescaled(*batch).item() == pytest.approx(plain(*batch).item(), rel=ROUNDING)
    assert rescaled.half_mse_scale == plain.half_mse_scale
    for target, weight in ((2.0, 1.0), (1.0, 2.0)):  # targets that are not one-hot have no λ
        assert RescaledMSE(5, target=target, weight=weight).half_mse_scale is None


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


class WithFeatures(nn.Module):
    def forward(self, logits: Tensor, labels: Tensor, *, features: Tensor) -> Tensor:
        return with_features(logits, labels, features)


@pytest.mark.parametrize("loss", [with_features, WithFeatures(), WithFeatures().forward])
def test_objective_gives_features_to_a_loss_that_asks_for_them(loss: Callable[..., Tensor], batch: Batch) -> None:
    features = torch.arange(36, dtype=torch.float64).reshape(12, 3)
    expected = functional.cross_entropy(*batch).item() + 0.1 * sum(k * k for k in range(36)) / 36
    assert objective_of(loss)(*batch, features).item() == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("loss", [MSE(5), nn.CrossEntropyLoss()])
def test_objective_keeps_features_from_a_loss_that_does_not(loss: Callable[..., Tensor], batch: Batch) -> None:
    assert torch.equal(objective_of(loss)(*batch, torch.ones(12, 3)), loss(*batch))


# A loss that is no mean over the examples is refused before anything is written

WEIGHT = torch.zeros(3, 5)
LOSSES: dict[str, tuple[Any, str]] = {
    "unreduced": (lambda z, y: functional.cross_entropy(z, y, reduction="none"), r"a Tensor of shape \(2,\)"),
    "one element": (lambda z, y: functional.cross_entropy(z, y)[None], r"a Tensor of shape \(1,\)"),
    "number": (lambda z, y: functional.cross_entropy(z, y).item(), "a float for"),
    "detached": (lambda z, y: functional.cross_entropy(z, y).detach(), r"a Tensor of shape \(\)"),
}


def unreduced(num_classes: int) -> Any:
    """As a configuration names it."""
    return LOSSES["unreduced"][0]


@pytest.mark.parametrize("name", LOSSES)
def test_loss_that_returns_no_mean_is_refused(name: str) -> None:
    loss, got = LOSSES[name]
    with pytest.raises(ValueError, match=f"^loss: expected a scalar tensor .*, got {got}"):
        refuse_other_than_scalar(objective_of(loss), WEIGHT)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_loss_that_draws_random_numbers_leaves_the_generator_alone(mode: Any) -> None:
    def noisy(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        return functional.cross_entropy(logits + torch.rand(()), labels) + features.sum()

    before = torch.get_rng_state()
    with mode():
        refuse_other_than_scalar(objective_of(noisy), WEIGHT)
    assert torch.equal(before, torch.get_rng_state())


def test_run_with_an_unreduced_loss_is_refused_in_one_message(composed: Compose, outputs: Path) -> None:
    raw = composed()
    raw["loss"] = {"name": "unreduced", "_target_": f"{__name__}.unreduced"}
    with pytest.raises(ConfigError, match=r"^loss: expected a scalar tensor .* Reduce it with \.mean\(\)"):
        assemble(check(raw))
    assert not outputs.exists()


def test_recorder_refuses_an_unreduced_loss_before_it_writes(tmp_path: Path) -> None:
    model = nn.Linear(6, 4)
    data = [(torch.randn(8, 6), torch.arange(8) % 4)]
    with (
        pytest.raises(ValueError, match=r"^loss: expected a scalar tensor"),
        ncexp.Recorder(tmp_path / "run", num_classes=4, classifier="", loss=LOSSES["unreduced"][0]) as recorder,
    ):
        recorder.evaluate(1, model, data)
    assert not (tmp_path / "run").exists()


def test_losses_of_targets_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    predictions, targets = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    of_sum = nn.MSELoss(reduction="sum")(predictions, targets).item() / 12 / 2
    assert SquaredError(3)(predictions, targets).item() == pytest.approx(of_sum, rel=ROUNDING)
    mean = SquaredError(3, scale="2/C")
    assert mean(predictions, targets).item() == pytest.approx(nn.MSELoss()(predictions, targets).item(), rel=ROUNDING)
    assert mean.half_mse_scale == 2 / 3
    off = (predictions - targets).abs()
    huber = torch.where(off <= 0.7, off.square() / 2, 0.7 * (off - 0.35)).sum().item() / 12
    assert Huber(3, delta=0.7)(predictions, targets).item() == pytest.approx(huber, rel=ROUNDING)
    assert Huber(3, delta=1e6)(predictions, targets).item() == pytest.approx(of_sum, rel=ROUNDING)
    assert Huber(3, delta=1e6)(predictions, targets.float()).item() == pytest.approx(of_sum, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "is_mean"),
    [(SquaredError(3), True), (Huber(3), True), (nn.MSELoss(), True), (nn.MSELoss(reduction="sum"), False)],
)
def test_loss_that_is_a_mean_over_examples_with_targets_is_known(loss: Any, is_mean: bool) -> None:
    assert is_mean_of_targets(objective_of(loss), torch.zeros(3, 5)) == is_mean
