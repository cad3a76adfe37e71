"""The supervised contrastive loss against loops over pairs; what it moves, and where it cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import SMALL_DATA, Compose, train
from torch import Tensor, nn

from ncexp.config import ConfigError, check
from ncexp.measure import evaluate, subject_of
from ncexp.training import Processes, assemble, contrastive, label_weights, objective_of
from ncexp.training.contrastive import SupervisedContrastive

N, C, P = 9, 4, 6
#: float64 sums of some dozens of terms.
ROUNDING = 1e-12
#: float32 sums of 80 terms.
SINGLE = 1e-5


def pairs(features: Any, labels: Any, temperature: float) -> float:
    """A loop over anchors, positives and all others."""
    rows = [[one / (math.sqrt(sum(k * k for k in row)) or 1) for one in row] for row in features.tolist()]
    values = []
    for i, u in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        similar = {j: math.exp(sum(a * b for a, b in zip(u, rows[j], strict=True)) / temperature) for j in others}
        same = [j for j in others if labels[j] == labels[i]]
        if same:
            values.append(-sum(math.log(similar[p] / sum(similar.values())) for p in same) / len(same))
    return sum(values) / len(values) if values else 0.0


def given(labels: list[int]) -> tuple[Tensor, Tensor, nn.Linear]:
    torch.manual_seed(0)
    layer = nn.Linear(P, C).double()
    return torch.randn(len(labels), P, dtype=torch.float64), torch.tensor(labels), layer


def value(loss: Any, features: Tensor, labels: Tensor, layer: nn.Linear) -> Tensor:
    return objective_of(loss)(layer(features), labels, features, layer)


@pytest.mark.parametrize("at_once", [1, 20, 2**24])
@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 2, 3, 3, 3], [1, 1], [0, 1, 2], [2]])
def test_loss_is_that_of_loops_over_pairs_and_of_a_reading_layer(
    labels: list[int], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrastive, "_AT_ONCE", at_once)
    features, classes, layer = given(labels)
    reading = nn.functional.cross_entropy(layer(features), classes).item()
    found = value(SupervisedContrastive(C, temperature=0.3), features, classes, layer).item()
    assert found == pytest.approx(pairs(features, labels, 0.3) + reading, rel=ROUNDING)


def test_features_are_moved_by_the_pairs_and_the_layer_by_cross_entropy() -> None:
    features, labels, layer = given([0, 1, 2, 0, 1, 2, 0, 1, 3])
    features.requires_grad_()
    slopes = torch.autograd.grad(value(SupervisedContrastive(C), features, labels, layer), [features, layer.weight])
    held = features.detach()
    of_layer = torch.autograd.grad(nn.functional.cross_entropy(layer(held), labels), [layer.weight])
    assert torch.equal(slopes[1], of_layer[0])
    step = 1e-6
    for i, k in ((0, 0), (4, 3), (8, 5)):
        moved = [held.clone(), held.clone()]
        moved[0][i, k] += step
        moved[1][i, k] -= step
        slope = (pairs(moved[0], labels.tolist(), 0.1) - pairs(moved[1], labels.tolist(), 0.1)) / (2 * step)
        assert slopes[0][i, k].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)  # of central differences


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1], [0]])
def test_gradients_are_finite_at_collapse_and_of_features_that_are_zero(labels: list[int]) -> None:
    layer = nn.Linear(P, C)
    for size in (0.0, 1.0):
        features = (size * torch.eye(C, P))[labels].requires_grad_()
        loss = value(SupervisedContrastive(C, temperature=0.05), features, torch.tensor(labels), layer)
        loss.backward()
        assert loss.isfinite()
        assert features.grad is not None
        assert features.grad.isfinite().all()


def test_two_views_are_two_rows_of_the_batch() -> None:
    """Then each example has a positive, its other view."""
    features, labels, layer = given([0, 1, 2, 3])
    views = torch.cat([features, features + 0.1])
    found = value(SupervisedContrastive(C), views, labels.repeat(2), layer).item()
    reading = nn.functional.cross_entropy(layer(views), labels.repeat(2)).item()
    assert found == pytest.approx(pairs(views, [0, 1, 2, 3] * 2, 0.1) + reading, rel=ROUNDING)


# In a run

RUN = [*SMALL_DATA, "architecture=mlp", "architecture.hidden=[16,8]", "batch_size=40", "device=cpu", "epochs=20"]
RUN += ["optimizer=sgd", "optimizer.lr=0.05", "tracking.enabled=false", "loss=supervised_contrastive"]


def test_evaluated_loss_is_that_of_all_examples_at_once(composed: Compose) -> None:
    assembly = assemble(check(composed(*RUN, "analysis=[]", base=[])))
    subject, data, network = subject_of(assembly), assembly.dataset.train, assembly.training.network
    found = evaluate(subject, 1, {}).splits["train"].loss
    logits, features = (one.detach().double() for one in network.eval()(data.inputs))
    expected = pairs(features, data.labels.tolist(), 0.1) + nn.functional.cross_entropy(logits, data.labels).item()
    assert found == pytest.approx(expected, rel=SINGLE)
    assert subject.ridge.convention == "λ = 0: " + SupervisedContrastive.no_ridge
    assembly.check_gradients()


@pytest.mark.parametrize("head", ["linear", "normalized", "hyperspherical"])
def test_contrastive_loss_is_learned_with_heads_that_are_trained(composed: Compose, head: str) -> None:
    directory = train(composed(*RUN, f"architecture.head={head}", "evaluate_at=[1]", "analysis=[]", base=[]))
    losses = [row["fit/loss"] for row in directory.training.read()]
    assert losses[-1] < losses[0] - 0.1


def test_contrastive_loss_is_no_mean_and_refused_on_several_processes(composed: Compose) -> None:
    assert label_weights(objective_of(SupervisedContrastive(C)), torch.randn(C, P)) is None  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="loss: expected a mean over the examples, each counted alike, on 2 processes"
    ):
        assemble(check(composed(*RUN, base=[])), processes=Processes(rank=0, size=2))


def test_contrastive_loss_is_refused_with_a_last_layer_that_is_fixed(composed: Compose) -> None:
    """Tried, such a network decided four of five examples wrongly: nothing turns the features to the frame."""
    for fixed in ("architecture.head=etf_fixed", "+architecture.classifier=simplex_etf"):
        with pytest.raises(ConfigError, match="head: expected one that is trained with loss=supervised_contrastive"):
            assemble(check(composed(*RUN, fixed, base=[])))
