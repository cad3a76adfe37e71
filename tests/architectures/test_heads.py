"""Heads of any network: their logits by a plain loop, what measurement sees of them, and what is refused."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from support import SMALL_DATA, Compose, measured
from torch import nn

from ncexp.architectures import Network, last_layer, put_head
from ncexp.architectures.heads import unit
from ncexp.config import ConfigError, check
from ncexp.config.start import Head, divide, head_of
from ncexp.measure import evaluate, ridge_of, subject_of
from ncexp.training import assemble
from ncexp.training.optimizers import sgd

C, P = 4, 7
HEADS = [Head("no_bias"), Head("etf_fixed"), Head("normalized", 0.5), Head("hyperspherical", 0.1)]
HEADS += [Head("normalized", "learned"), Head("hyperspherical", "learned")]
#: float32 sums of a dozen terms, relative to the largest.
ROUNDING = 1e-5
#: The same in float64, and of what is rounded to float32 once.
CLOSE = 1e-12


class Own(nn.Module):
    """As somebody writes one: its own forward, and features under no special name."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classifier = nn.Sequential(nn.Linear(6, P), nn.ReLU()), nn.Linear(P, C)

    def forward(self, inputs: Any) -> Any:
        hidden = self.body(inputs)
        return self.classifier(hidden), hidden


def headed(head: Head, kind: str = "network") -> Any:
    torch.manual_seed(0)
    network = Own() if kind == "own" else Network(nn.Sequential(nn.Linear(6, P), nn.ReLU()), P, C)
    put_head(network, head)
    return network


def by_hand(head: Head, body: Any, layer: Any, inputs: Any) -> Any:
    """Logits of one example after another, in NumPy."""
    rows = layer.parametrizations.weight.original if "normal" in head.kind or head.kind == "hyperspherical" else None
    weight = (layer.weight if rows is None else rows).detach().double().numpy()
    scale = {"normalized": 1.0, "hyperspherical": 20.0}[head.kind] if head.temperature == "learned" else None
    found = np.zeros((len(inputs), C))
    for i, hidden in enumerate(body(inputs).detach().double().numpy()):
        for c in range(C):
            value = sum(w * h for w, h in zip(weight[c], hidden, strict=True))
            if rows is not None:
                value /= math.sqrt(sum(w * w for w in weight[c]))
                value *= scale or 1 / float(head.temperature or 1)
            if head.kind == "hyperspherical":
                value /= math.sqrt(sum(h * h for h in hidden))
            found[i, c] = value + (1 / C if head.kind == "etf_fixed" else 0)
    return found


@pytest.mark.parametrize("kind", ["network", "own"])
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_logits_are_those_of_a_plain_loop_and_of_w_and_features(head: Head, kind: str) -> None:
    network, inputs = headed(head, kind), torch.randn(5, 6)
    layer = last_layer(network, inputs, trains=True)
    logits, features = network(inputs)
    expected = by_hand(head, network.body if kind == "own" else network.backbone, layer, inputs)
    assert np.abs(logits.detach().numpy() - expected).max() < ROUNDING * np.abs(expected).max()
    assert (layer.bias is None) == (head.kind != "etf_fixed")
    bias = 0 if layer.bias is None else layer.bias
    assert (features @ layer.weight.T + bias - logits).abs().max() < ROUNDING * logits.abs().max()
    if head.kind == "hyperspherical":
        assert (features.norm(dim=1) - 1).abs().max() < ROUNDING


@pytest.mark.parametrize("head", [Head("normalized", 0.25), Head("hyperspherical", 0.25)], ids=str)
def test_rows_of_a_normalised_head_keep_their_length_as_it_trains(head: Head) -> None:
    network = headed(head)
    before, optimizer = network.classifier.weight.detach().clone(), sgd(network.parameters(), lr=0.5, weight_decay=0.1)
    inputs, labels = torch.randn(20, 6), torch.arange(20) % C
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs)[0], labels).backward()
        optimizer.step()
    after = network.classifier.weight.detach()
    assert (after.norm(dim=1) - 4).abs().max() < ROUNDING
    assert (after - before).norm() > 0.1


def test_learned_temperature_is_trained_and_begins_at_the_usual_one() -> None:
    network = headed(Head("hyperspherical", "learned"))
    lengths = network.classifier.weight.norm(dim=1).detach()
    assert (lengths - 20).abs().max() < 20 * ROUNDING
    optimizer = sgd(network.parameters(), lr=0.1, weight_decay=0.0)
    nn.functional.cross_entropy(network(torch.randn(20, 6))[0], torch.arange(20) % C).backward()
    optimizer.step()
    after = network.classifier.weight.norm(dim=1).detach()
    assert (after - after[0]).abs().max() < 20 * ROUNDING
    assert abs(after[0] - 20) > 0.01


def test_gradients_are_finite_where_a_feature_is_zero() -> None:
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    found = unit(vectors)
    found.sum().backward()
    assert found.tolist() == [[0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert vectors.grad is not None
    assert vectors.grad[0].tolist() == [1, 1]  # as of what is divided by 1: no 1e12
    assert vectors.grad[1].tolist() == pytest.approx([0.2 - 0.6 * 1.4 / 5, 0.2 - 0.8 * 1.4 / 5])
    tiny = torch.tensor([[3e-30, 4e-30], [3e30, 4e30]])  # whose squares float32 does not hold
    torch.testing.assert_close(unit(tiny), torch.tensor([[0.6, 0.8], [0.6, 0.8]]))
    network = headed(Head("hyperspherical", 0.05))
    nn.init.constant_(network.backbone[0].bias, -100.0)  # every feature is 0
    logits, features = network(torch.randn(5, 6))
    nn.functional.cross_entropy(logits, torch.arange(5) % C).backward()
    assert not features.any()
    assert all(one.grad is None or one.grad.isfinite().all() for one in network.parameters())


# What measurement sees

RUN = [*SMALL_DATA, "architecture=mlp", "architecture.hidden=[16,8]", "batch_size=32"]


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("head", ["no_bias", "etf_fixed", "normalized", "hyperspherical"])
def test_decomposition_is_that_of_the_layer_that_the_head_amounts_to(composed: Compose, head: str, loss: str) -> None:
    """Theory: W' and h/‖h‖, without decay: ½ Ave ‖logits − onehot‖² = L_LS + L_LS^⊥ with the logits of the network."""
    config = check(composed(*RUN, f"architecture.head={head}", f"loss={loss}", "analysis=[decomposition]", base=[]))
    assembly = assemble(config)
    record = measured(assembly, config)
    subject = subject_of(assembly)
    if head != "no_bias":
        assert (subject.ridge.weight, subject.ridge.bias) == (0, 0)
    elif loss == "mse":
        assert subject.ridge.weight == config.optimizer.options["weight_decay"] > 0
    data, decay = assembly.dataset.train, subject.ridge.weight
    with torch.no_grad():
        logits = assembly.training.network.eval()(data.inputs)[0].double()
    weight = assembly.classifier.weight.detach().double()
    half = (logits - nn.functional.one_hot(data.labels, C)).square().sum(1).mean() / 2
    expected = float(half + decay / 2 * weight.square().sum())
    assert record["train/mse/loss"] == pytest.approx(expected, rel=ROUNDING)
    terms = record["train/mse/loss_ls"] + record["train/mse/loss_ls_perp"]
    assert terms == pytest.approx(record["train/mse/loss"], rel=CLOSE)


def test_ridge_of_a_normalised_head_is_zero_and_says_why() -> None:
    network = headed(Head("hyperspherical", 0.1))
    ridge = ridge_of(sgd(network.parameters(), lr=0.1, weight_decay=0.3), network.classifier, 1.0)
    assert (ridge.weight, ridge.bias) == (0, 0)
    assert "weight is made by UnitRows, whose parameters' decay is no ridge on it" in ridge.convention


def test_evaluated_loss_is_that_of_cosines(composed: Compose) -> None:
    choice = ["architecture.head=hyperspherical", "architecture.temperature=0.2", "loss=cross_entropy", "analysis=[]"]
    assembly = assemble(check(composed(*RUN, *choice, base=[])))
    snapshot = evaluate(subject_of(assembly), 1, {})
    data, network = assembly.dataset.train, assembly.training.network.eval()
    inputs, labels = data.inputs, data.labels
    hidden = network.backbone(inputs).detach().double()
    rows = network.classifier.parametrizations.weight.original.detach().double()
    cosines = nn.functional.cosine_similarity(hidden[:, None], rows[None], dim=2)
    assert snapshot.splits["train"].loss == pytest.approx(
        float(nn.functional.cross_entropy(cosines / 0.2, labels)), rel=ROUNDING
    )
    assert (snapshot.splits["train"].of_classes.class_means.norm(dim=1) <= 1).all()


# The configuration


def key(composed: Compose, *overrides: str) -> str:
    return check(composed(*overrides)).key


def test_key_of_a_linear_head_is_as_before_and_each_other_has_its_own(composed: Compose) -> None:
    raw = composed()
    assert {"head", "temperature"} < raw["architecture"].keys()
    before = {name: value for name, value in raw["architecture"].items() if name not in ("head", "temperature")}
    assert check({**raw, "architecture": before}).key == check(raw).key == key(composed, "architecture.head=linear")
    assert not {"head", "temperature"} & check(composed("architecture.head=linear")).raw["architecture"].keys()
    kinds = ("no_bias", "normalized", "etf_fixed", "hyperspherical")
    chosen = [[f"architecture.head={kind}"] for kind in kinds]
    chosen += [["architecture.head=normalized", f"architecture.temperature={one}"] for one in (0.5, "learned")]
    assert len({key(composed), *(key(composed, *one) for one in chosen)}) == 7
    assert key(composed, *chosen[1], "architecture.temperature=1.0") == key(composed, *chosen[1])


def test_configuration_of_a_head_is_written_and_read_again(composed: Compose) -> None:
    config = check(composed("architecture.head=hyperspherical"))
    assert config.raw["architecture"]["temperature"] == 0.05
    assert check(config.raw).key == config.key
    assert config.name == "gaussian_mixture-mlp-mse_hyperspherical_lr0.0184202_seed0"


def own(input_shape: tuple[int, ...], num_classes: int, head: str = "mine") -> nn.Module:
    raise AssertionError


def test_head_of_ones_own_function_stays_its_own_and_a_vggs_too(composed: Compose) -> None:
    chosen = {"name": "own", "_target_": f"{__name__}.own", "head": "no_bias"}
    assert divide(chosen) == (chosen, {})
    vgg = composed("architecture=vgg11", "architecture.head=fully_connected", base=[])["architecture"]
    assert (divide(vgg)[0]["head"], head_of(vgg)) == ("fully_connected", Head())
    vgg["head"] = "no_bias"
    assert (divide(vgg)[0].get("head"), head_of(vgg)) == (None, Head("no_bias"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["architecture.head=cosine"], "architecture.head: expected 'linear', 'no_bias', .*, got 'cosine'"),
        (["architecture.temperature=0.1"], "temperature: expected none with head=linear, whose logits have none"),
        (["architecture.head=etf_fixed", "architecture.temperature=learned"], "none with head=etf_fixed"),
        (["architecture.head=normalized", "architecture.temperature=0.0"], "temperature: expected a value greater"),
        (["architecture.head=normalized", "architecture.temperature=fixed"], "temperature: expected .*'learned'"),
        (["architecture.head=no_bias", "+architecture.classifier=simplex_etf"], "head: expected linear with a last"),
        (["architecture.head=hyperspherical", "regime=on_path"], "regime: expected plain with .* a normalised one"),
        (["architecture.head=etf_fixed", "architecture.hidden=[16,2]"], "at least C − 1 = 3 features"),
        (
            ["dataset=diabetes", "architecture.head=normalized", "loss=squared_error"],
            "head: expected linear or no_bias with targets",
        ),
    ],
)
def test_head_that_cannot_be_is_refused_by_name(composed: Compose, overrides: list[str], message: str) -> None:
    base = ["architecture=mlp", "architecture.hidden=[16,8]", "batch_size=32"]
    data = [] if "dataset=diabetes" in overrides else [*SMALL_DATA, "loss=mse"]
    with pytest.raises(ConfigError, match=message):
        assemble(check(composed(*data, *base, *overrides, base=[])))


def test_head_begins_where_the_linear_layer_does(composed: Compose) -> None:
    build = partial(composed, *RUN, base=[])
    linear = assemble(check(build())).classifier.weight
    assert torch.equal(assemble(check(build("architecture.head=no_bias"))).classifier.weight, linear)
    rows = assemble(check(build("architecture.head=normalized"))).classifier
    assert torch.equal(rows.parametrizations.weight.original, linear)  # type: ignore[union-attr]
    fixed = [assemble(check(build("architecture.head=etf_fixed", f"seed={s}"))).classifier.weight for s in (0, 0, 1)]
    assert torch.equal(fixed[0], fixed[1])
    assert not torch.equal(fixed[0], fixed[2])


def unevaluable(input_shape: Anything, num_classes: Anything, *, head: str = "round", weights: str = "mine") -> Any:  # type: ignore[name-defined]  # noqa: F821
    """Its annotations name what only a type checker knows."""


def test_own_options_stay_own_whatever_their_annotations() -> None:
    given = {"_target_": f"{__name__}.unevaluable", "head": "square", "weights": "yours", "freeze": "backbone"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncexp.config.start.locate", lambda key, target: unevaluable)
        of_target, ours = divide(given)
    assert of_target == {name: given[name] for name in ("_target_", "head", "weights")}
    assert ours == {"freeze": "backbone"}
