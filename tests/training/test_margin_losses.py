"""Losses of cosines against plain loops, at exact collapse too; the last layer by signature; heads that do not fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SMALL_DATA, Compose, slow, train
from torch import Tensor, nn

from ncexp.collapse import LinearMap, simplex_etf
from ncexp.config import ConfigError, check
from ncexp.measure import evaluate, subject_of
from ncexp.record import RunDirectory
from ncexp.training import assemble, label_weights, objective_of
from ncexp.training.losses import CrossEntropy
from ncexp.training.margin_losses import ArcFace, CosFace, NormalizedSoftmax

N, C, P = 12, 5, 7
SCALE, MARGIN = 6.0, 0.4
#: float64 sums of some dozens of terms, arccos among them.
ROUNDING = 1e-10
#: float32, of logits up to 20.
SINGLE = 1e-5


@pytest.fixture
def given() -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels, and rows of length SCALE; every quadrant of angles occurs."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(N, P, generator=generator, dtype=torch.float64)
    weight = torch.randn(C, P, generator=generator, dtype=torch.float64)
    weight *= SCALE / weight.norm(dim=1, keepdim=True)
    labels = torch.arange(N) % C
    features[0] = -2 * weight[0] + 0.01 * features[0]  # an angle beyond π − m
    return features, labels, weight


def by_hand(name: str, features: Any, labels: Any, weight: Any, scale: float = SCALE) -> float:
    total = 0.0
    for h, y in zip(features.tolist(), labels.tolist(), strict=True):
        logits = []
        for c, w in enumerate(weight.tolist()):
            cosine = sum(a * b for a, b in zip(h, w, strict=True)) / _length(h) / _length(w)
            if c == y and name == "cosface":
                cosine -= MARGIN
            elif c == y and name == "arcface" and any(h):
                angle = math.acos(cosine)
                beyond = angle > math.pi - MARGIN
                cosine = cosine - MARGIN * math.sin(MARGIN) if beyond else math.cos(angle + MARGIN)
            logits.append(scale * cosine)
        total += math.log(sum(math.exp(z - logits[y]) for z in logits))
    return total / len(labels)


def _length(vector: list[float]) -> float:
    return math.sqrt(sum(one * one for one in vector)) or 1.0  # 0 has no direction


LOSSES: dict[str, Any] = {
    "normalized_softmax": NormalizedSoftmax(C),
    "cosface": CosFace(C, margin=MARGIN),
    "arcface": ArcFace(C, margin=MARGIN),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_a_plain_loop_with_arccos(name: str, given: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, weight = given
    found = LOSSES[name](torch.zeros(N, C), labels, features, weight)
    assert found.item() == pytest.approx(by_hand(name, features, labels, weight), rel=ROUNDING)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str, given: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, weight = given
    for one in (features, weight):
        one.requires_grad_()
    logits = torch.zeros(N, C)
    assert torch.autograd.gradcheck(lambda h, w: LOSSES[name](logits, labels, h, w), (features, weight))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_at_exact_collapse(name: str, dtype: torch.dtype, sign: float) -> None:
    """cos θ = ±1 exactly, where arccos has an infinite slope; and of a feature that is 0."""
    corners = torch.eye(C, P, dtype=dtype)  # whose cosines are 0 and 1 exactly
    frame = (simplex_etf(C, P) * 1.7).to(dtype)
    for rows in (corners, frame):
        weight = (SCALE * rows).requires_grad_()
        features = torch.cat([3 * sign * rows, torch.zeros(1, P, dtype=dtype)]).requires_grad_()
        loss = LOSSES[name](torch.zeros(C + 1, C), torch.arange(C + 1) % C, features, weight)
        slopes = torch.autograd.grad(loss, [features, weight])
        assert loss.isfinite()
        assert all(slope.isfinite().all() and slope.abs().max() < 100 for slope in slopes)


def test_without_a_margin_all_are_cross_entropy_of_the_cosines(given: tuple[Tensor, Tensor, Tensor]) -> None:
    features, labels, weight = given
    logits = features / features.norm(dim=1, keepdim=True) @ weight.T
    expected = CrossEntropy(C)(logits, labels).item()
    for loss in (NormalizedSoftmax(C), CosFace(C, margin=0.0), ArcFace(C, margin=0.0)):
        assert loss(logits, labels, features, weight).item() == pytest.approx(expected, rel=ROUNDING)


# What a loss is given of the last layer


def of_layer(logits: Tensor, labels: Tensor, *, weight: Tensor, bias: Tensor | None) -> Tensor:
    return logits.mean() + 10 * weight.sum() + (0 if bias is None else 100 * bias.sum())


def test_objective_gives_weight_and_bias_to_a_loss_that_names_them() -> None:
    layer = nn.Linear(3, 2)
    logits, labels, features = torch.ones(4, 2), torch.zeros(4, dtype=torch.int64), torch.zeros(4, 3)
    objective = objective_of(of_layer)
    expected = 1 + 10 * layer.weight.sum() + 100 * layer.bias.sum()
    assert torch.allclose(objective(logits, labels, features, layer), expected)
    objective(logits, labels, features, layer).backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, torch.full((2, 3), 10.0))
    without = objective(logits, labels, features, LinearMap(layer.weight, None))
    assert torch.allclose(without, 1 + 10 * layer.weight.sum())
    # torch's own has weights of classes under this name, with a default.
    assert objective_of(CrossEntropy(2)).of_layer == objective_of(nn.functional.cross_entropy).of_layer == ()


def test_documented_loss_of_ones_own_is_given_the_rows() -> None:
    page = (Path(__file__).parents[2] / "docs" / "heads_and_losses.md").read_text()
    names: dict[str, Any] = {}
    exec(compile(page.split("```python")[1].split("```")[0], "docs/heads_and_losses.md", "exec"), names)
    layer, features = nn.Linear(3, 2), torch.ones(4, 3)
    found = objective_of(names["pulled"])(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]), features, layer)
    apart = (1 - layer.weight).square().mean()  # each row twice
    assert found.item() == pytest.approx(math.log(2) + 0.1 * apart.item(), rel=SINGLE)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_cosines_counts_each_example_alike(name: str) -> None:
    """Found by trying it on features that an example keeps: so it may be trained on several processes."""
    weight = 20 * torch.eye(C, P)
    assert torch.equal(label_weights(objective_of(LOSSES[name]), weight), torch.ones(C, dtype=torch.float64))  # type: ignore[arg-type]


# In a run

RUN = [*SMALL_DATA, "architecture=mlp", "architecture.hidden=[16,8]", "batch_size=32", "device=cpu"]
RUN += ["architecture.temperature=0.1", "optimizer=sgd", "optimizer.lr=0.05", "tracking.enabled=false"]


def choose(loss: str, head: str) -> list[str]:
    return [*RUN, f"loss={loss}", f"architecture.head={head}"]


@pytest.mark.parametrize("head", ["hyperspherical", "normalized"])
@pytest.mark.parametrize("name", LOSSES)
def test_evaluated_loss_and_gradients_are_those_by_hand(composed: Compose, name: str, head: str) -> None:
    margin = [] if name == "normalized_softmax" else [f"loss.margin={MARGIN}"]
    assembly = assemble(check(composed(*choose(name, head), *margin, "analysis=[]", base=[])))
    data, network = assembly.dataset.train, assembly.training.network
    snapshot = evaluate(subject_of(assembly), 1, {})
    hidden = network.eval().backbone(data.inputs).detach().double()
    rows = network.classifier.parametrizations.weight.original.detach().double()
    expected = by_hand(name, hidden, data.labels, rows, scale=10.0)
    assert snapshot.splits["train"].loss == pytest.approx(expected, rel=SINGLE)
    assembly.check_gradients()


def test_normalized_softmax_is_cross_entropy_of_a_hyperspherical_head(composed: Compose) -> None:
    found: list[RunDirectory] = [
        train(composed(*choose(loss, "hyperspherical"), "epochs=3", "evaluate_at=[3]", "analysis=[]", base=[]))
        for loss in ("normalized_softmax", "cross_entropy")
    ]
    losses = [[row["fit/loss"] for row in one.training.read()] for one in found]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # three epochs of other roundings


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", ["linear", "no_bias"])
def test_head_that_decides_by_more_than_cosines_is_refused(composed: Compose, loss: str, head: str) -> None:
    message = f"architecture.head: expected one that decides by cosines with loss={loss}"
    chosen = [one for one in choose(loss, head) if "temperature" not in one]
    with pytest.raises(ConfigError, match=message):
        assemble(check(composed(*chosen, base=[])))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.margin=-0.1", "loss.margin: expected a value greater than or equal to 0"),
        ("loss.margin=2.0", "loss.margin: expected a value less than"),
        ("loss.margin=null", "loss.margin: expected a number"),
    ],
)
def test_margins_out_of_bounds_are_refused(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(composed(*choose("arcface", "hyperspherical"), override, base=[]))


@pytest.mark.slow
@pytest.mark.parametrize("name", [slow(one) for one in LOSSES])
def test_loss_of_cosines_is_learned(composed: Compose, name: str) -> None:
    directory = train(composed(*choose(name, "hyperspherical"), "epochs=30", "evaluate_at=[1]", base=[]))
    errors = [row["fit/error"] for row in directory.training.read()]
    assert errors[-1] <= 0.1 < errors[0]
