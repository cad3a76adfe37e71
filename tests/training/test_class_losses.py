"""Losses for unequal classes, squentropy and the hinge loss: against plain loops, and what λ follows from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Compose
from torch import Tensor, nn

import ncexp
from ncexp.config import ConfigError, check
from ncexp.measure import subject_of
from ncexp.training import assemble, label_weights, objective_of
from ncexp.training.class_losses import Hinge, LogitAdjustment, Squentropy, WeightedCrossEntropy, WeightedMSE
from ncexp.training.losses import MSE, CrossEntropy

Batch = tuple[Tensor, Tensor]
N, C = 12, 5
COUNTS = torch.tensor([40, 10, 5, 20, 25])
WEIGHTS = [0.5, 2.0, 0.0, 1.5, 1.0]
#: float64 sums of some dozens of terms.
ROUNDING = 1e-12


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, C, generator=generator, dtype=torch.float64), torch.randint(C, (N,), generator=generator)


def log_softmax(row: list[float], label: int) -> float:
    return row[label] - math.log(sum(math.exp(z) for z in row))


def told(loss: Any) -> Any:
    loss.set_class_counts(COUNTS)
    return loss


def half_square(row: list[float], label: int) -> float:
    return sum((z - (c == label)) ** 2 for c, z in enumerate(row)) / 2


BALANCED = [100 / (5 * count) for count in COUNTS.tolist()]
LOSSES: dict[str, tuple[Any, Any]] = {
    "weighted ce": (lambda: WeightedCrossEntropy(C, weights=WEIGHTS), lambda z, y: -WEIGHTS[y] * log_softmax(z, y)),
    "balanced ce": (lambda: told(WeightedCrossEntropy(C)), lambda z, y: -BALANCED[y] * log_softmax(z, y)),
    "weighted mse": (lambda: WeightedMSE(C, weights=WEIGHTS), lambda z, y: WEIGHTS[y] * half_square(z, y)),
    "balanced mse": (lambda: told(WeightedMSE(C, scale="2/C")), lambda z, y: BALANCED[y] * half_square(z, y) * 2 / 5),
    "logit adjustment": (
        lambda: told(LogitAdjustment(C, tau=0.7)),
        lambda z, y: (
            -log_softmax([one + 0.7 * math.log(k / 100) for one, k in zip(z, COUNTS.tolist(), strict=True)], y)
        ),
    ),
    "squentropy": (
        lambda: Squentropy(C),
        lambda z, y: -log_softmax(z, y) + sum(one * one for c, one in enumerate(z) if c != y) / 4,
    ),
    "hinge": (lambda: Hinge(C), lambda z, y: max(0.0, max(1 + one - z[y] for c, one in enumerate(z) if c != y))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_mean_of_a_plain_loop(name: str, batch: Batch) -> None:
    make, formula = LOSSES[name]
    expected = sum(formula(row, label) for row, label in zip(batch[0].tolist(), batch[1].tolist(), strict=True)) / N
    assert make()(*batch).item() == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_counts_each_example_alike_and_has_no_ridge(name: str) -> None:
    """So it is trained on several processes, and a split's is the mean of its batches'."""
    loss = LOSSES[name][0]()
    assert torch.equal(label_weights(objective_of(loss), torch.zeros(C, 3)), torch.ones(C, dtype=torch.float64))  # type: ignore[arg-type]
    assert loss.half_mse_scale is None


def test_losses_with_nothing_to_change_are_the_plain_ones(batch: Batch) -> None:
    equal = torch.full((C,), 7)
    for weighted, plain in ((WeightedCrossEntropy(C), CrossEntropy(C)), (WeightedMSE(C, scale=3.0), MSE(C, scale=3.0))):
        weighted.set_class_counts(equal)
        assert weighted(*batch).item() == pytest.approx(plain(*batch).item(), rel=ROUNDING)
    assert weighted.half_mse_scale == 3.0
    assert WeightedMSE(C, weights=[2.0] * C).half_mse_scale == 2.0
    without = told(LogitAdjustment(C, tau=0.0))
    assert torch.equal(without(*batch), CrossEntropy(C)(*batch))


def test_hinge_is_zero_beyond_the_margin_and_has_its_slope_before() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.5, 0.0, 0.2]], requires_grad=True)
    loss = Hinge(3)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(0.7 / 2)
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, 0, 0], [-0.5, 0, 0.5]]


@pytest.mark.parametrize("name", ["weighted_cross_entropy", "weighted_mse", "logit_adjustment", "squentropy", "hinge"])
def test_loss_is_one_override_and_takes_the_classes_from_the_data(composed: Compose, name: str) -> None:
    assembly = assemble(check(composed(f"loss={name}", "optimizer.weight_decay=0.01")))
    subject, data = subject_of(assembly), assembly.dataset.train
    balanced = int(data.labels.bincount().max()) == int(data.labels.bincount().min())
    assert balanced
    assert subject.ridge.weight == (0.01 if name == "weighted_mse" else 0)  # equal classes: it is the MSE
    logits, features = assembly.training.network(data.inputs)
    assert assembly.training.loss(logits, data.labels, features).isfinite()


def test_ridge_of_unequal_weights_is_zero_and_says_why(composed: Compose) -> None:
    subject = subject_of(assemble(check(composed("loss=weighted_mse", "loss.weights=[1.0,2.0,1.0,1.0]"))))
    assert (subject.ridge.weight, subject.ridge.bias) == (0, 0)
    assert "λ = 0: the loss weighs the classes unequally" in subject.ridge.convention


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=weighted_mse", "loss.weights=[1.0,2.0]"], "loss.weights: expected .* each of the 4 classes, got 2"),
        (["loss=weighted_mse", "loss.weights=[0.0,0.0,0.0,0.0]"], "got zeros alone"),
        (["loss=weighted_cross_entropy", "loss.weights=equal"], "loss.weights: expected 'balanced', or a list"),
        (["loss=logit_adjustment", "loss.tau=-1.0"], "loss.tau: expected a value greater than or equal to 0"),
        (["loss=weighted_mse", "loss.weights=[1.0,2.0,1.0,1.0]", "regime=on_path"], "no multiple of the MSE"),
    ],
)
def test_bad_options_are_refused_by_name(composed: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assemble(check(composed(*overrides)))


@pytest.mark.parametrize("loss", [WeightedCrossEntropy(3), WeightedMSE(3), LogitAdjustment(3)])
def test_classes_without_examples_are_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"got none of class 1 \(1 of 3 classes have none\)"):
        loss.set_class_counts(torch.tensor([3, 0, 2]))


def test_recorder_refuses_weights_that_it_cannot_know(tmp_path: Path) -> None:
    data = [(torch.randn(8, 6), torch.arange(8) % 4)]
    for name in ("weighted_cross_entropy", "logit_adjustment"):
        recorder = ncexp.Recorder(tmp_path / name, num_classes=4, classifier="", loss=name)
        with pytest.raises(ValueError, match="where it is not known how many training examples"):
            recorder.evaluate(1, nn.Linear(6, 4), data)
