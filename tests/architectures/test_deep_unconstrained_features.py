"""Deep unconstrained features: what the network computes, how it begins, what is decayed, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import Compose

from ncexp.architectures.unconstrained_features import unconstrained_features
from ncexp.config import ConfigError, check
from ncexp.datasets.unconstrained import numbered
from ncexp.training import assemble

C, P, n = 3, 5, 7
#: Float64, a few products of small matrices.
ROUNDING = 1e-12
DEEP = [
    "loss=mse", "dataset=unconstrained", "dataset.num_classes=3", "dataset.examples_per_class=4",
    "architecture=unconstrained_features", "architecture.num_features=5", "batch_size=12", "optimizer=sgd",
    "optimizer.lr=0.1", "tracking.enabled=false",
]  # fmt: skip


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("bias", [True, False])
def test_deep_features_are_the_written_out_product(activation: str, bias: bool) -> None:
    torch.manual_seed(1)
    network = unconstrained_features((n,), C, num_features=P, layers=3, activation=activation, bias=bias)  # type: ignore[arg-type]
    weights = {name: one.detach().numpy() for name, one in network.named_parameters()}
    layers = ["backbone.layers.0.weight", "backbone.layers.1.weight", "classifier.weight"]
    assert [*weights] == ["backbone.table", *layers, *["classifier.bias"] * bias]
    logits, features = network(torch.eye(n))
    for i in range(n):
        h = weights["backbone.table"][i]
        for name in layers[:2]:
            h = weights[name] @ h
            h = np.maximum(h, 0) if activation == "relu" else h
        output = weights[layers[2]] @ h + (weights["classifier.bias"] if bias else 0)
        assert np.abs(features[i].detach().numpy() - h).max() < ROUNDING
        assert np.abs(logits[i].detach().numpy() - output).max() < ROUNDING


@pytest.mark.parametrize("layers", [1, 4])
def test_spectrum_is_that_of_the_product_in_balanced_factors(layers: int) -> None:
    torch.manual_seed(2)
    wanted = [3.0, 0.2]
    network = unconstrained_features((n,), C, num_features=P, layers=layers, bias=False, spectrum=wanted)
    table, *weights = (one.detach() for one in network.parameters())
    product = torch.linalg.multi_dot([*reversed(weights), table.T])
    assert torch.linalg.svdvals(product).tolist() == pytest.approx([*wanted, 0.0], abs=ROUNDING)
    for before, after in zip([table.T, *weights], weights, strict=False):
        assert torch.allclose(after.T @ after, before @ before.T, rtol=0, atol=ROUNDING)


def test_deep_features_begin_with_lengths_that_layers_keep() -> None:
    """Of 400 features the mean squared length is known to some percent."""
    torch.manual_seed(3)
    for activation in ("linear", "relu"):
        network = unconstrained_features((4,), C, num_features=400, layers=6, activation=activation)  # type: ignore[arg-type]
        squares = network.backbone(torch.eye(4)).detach().square().mean()
        assert 0.5 < float(squares / network.backbone.table.detach().square().mean()) < 2


def test_each_layer_has_a_decay_of_its_own(composed: Compose) -> None:
    decays = "{backbone.table:0.1,*.layers.0.weight:0.2,*.layers.1.weight:0.3,classifier.weight:0.4}"
    raw = composed("architecture.layers=3", "architecture.bias=false", f"optimizer.decay_of={decays}", base=DEEP)
    training = assemble(check(raw)).training
    named = {id(one): name for name, one in training.network.named_parameters()}
    found = {named[id(p)]: group["weight_decay"] for group in training.optimizer.param_groups for p in group["params"]}
    assert [*found.values()] == [0.1, 0.2, 0.3, 0.4]
    assert [*found] == [name for name, _ in training.network.named_parameters()]


def test_options_of_depth_leave_the_key_of_earlier_runs(composed: Compose) -> None:
    """The key was taken before they were there."""
    assert check(composed(base=["experiment=unconstrained_features"])).key == "642113545f"
    changed = [
        ["architecture.layers=2"], ["architecture.layers=2", "architecture.activation=relu"],
        ["architecture.bias=false"], ["architecture.spectrum=[1.0]"],
    ]  # fmt: skip
    keys = {check(composed(*some, base=DEEP)).key for some in [[], *changed]}
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["architecture.activation=relu"], r"architecture\.activation: expected linear with layers=1"),
        (["architecture.bias=false", "architecture.classifier=simplex_etf"], r"architecture\.bias: expected none"),
        (["architecture.spectrum=[1.0]", "architecture.classifier=simplex_etf"], r"architecture\.spectrum: expected"),
        (["architecture.spectrum=[1.0,1.0,1.0,1.0]"], "expected 1 to 3 singular values.*got 4"),
        (["architecture.spectrum=[]"], "expected 1 to 3 singular values.*got 0"),
        (["dataset.class_sizes=[4,2]"], r"dataset\.class_sizes: expected num_classes=3 sizes"),
        (["dataset.class_sizes=[5,2,1]"], "the largest examples_per_class=4"),
    ],
)
def test_deep_features_refuse(composed: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assemble(check(composed(*overrides, base=DEEP)))


def test_class_sizes_are_any() -> None:
    labels = numbered(num_classes=4, examples_per_class=5, class_sizes=[5, 1, 2, 2]).train.labels
    assert labels.tolist() == [0] * 5 + [1] + [2] * 2 + [3] * 2
