"""Heads of other people's networks: features and logits as cosines by hand, names, and a start from a plain file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from started import QUIET, theirs
from support import SMALL, Compose, slow, train
from torch import Tensor, nn

from ncexp.architectures import last_layer, put_head
from ncexp.architectures.by_name import module_model, timm_model, torchvision_model
from ncexp.architectures.network import Network
from ncexp.config import ConfigError, check
from ncexp.config.start import Head
from ncexp.training import assemble

C, SIDE = 5, 32
#: float32 sums of up to 512 terms in another order, relative to the largest logit.
TOLERANCE = 1e-5
MODELS: dict[str, Any] = {
    "module": lambda: module_model((1, SIDE, SIDE), C, factory="foreign_networks.make"),
    "torchvision": lambda: torchvision_model((1, SIDE, SIDE), C, model="mobilenet_v3_small"),
    "timm": lambda: timm_model((1, SIDE, SIDE), C, model="resnet10t"),
}
HEADS = [Head("no_bias"), Head("etf_fixed"), Head("normalized", 0.5), Head("hyperspherical", 0.1)]


@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize("name", ["module", slow("torchvision"), slow("timm")])
def test_head_of_a_foreign_network_is_its_formula(name: str, head: Head) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    network, inputs = MODELS[name](), torch.randn(3, 1, SIDE, SIDE)
    with torch.no_grad():
        plain_logits, hidden = network.eval()(inputs)
    rows, bias = network.classifier.weight.detach().clone(), network.classifier.bias.detach().clone()
    assert (hidden @ rows.T + bias - plain_logits).abs().max() < TOLERANCE * plain_logits.abs().max()
    put_head(network, head)
    layer = last_layer(network, inputs, trains=True)
    with torch.no_grad():
        logits, features = network.eval()(inputs)
    if head.kind == "no_bias":
        expected, seen = hidden @ rows.T, hidden
    elif head.kind == "etf_fixed":
        expected, seen = hidden @ layer.weight.T + 1 / C, hidden
        gram = layer.weight @ layer.weight.T
        assert (gram - (C * torch.eye(C) - 1) / (C - 1)).abs().max() < TOLERANCE
        assert not [*layer.parameters()]
    else:
        exact = hidden.double()  # MobileNet begins with features of about 1e-9
        lengths = exact.square().sum(1, keepdim=True).sqrt()
        seen = exact / lengths if head.kind == "hyperspherical" else hidden
        cosines = exact @ (rows / rows.norm(dim=1, keepdim=True)).double().T / lengths
        expected = cosines / 0.1 if head.kind == "hyperspherical" else cosines * lengths / 0.5
    assert (logits - expected).abs().max() < TOLERANCE * expected.abs().max()
    assert (features - seen).abs().max() < TOLERANCE * seen.abs().max()
    assert (features @ layer.weight.T + (0 if layer.bias is None else layer.bias) - logits).abs().max() < TOLERANCE * 10


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_forward_with_a_head_is_one_graph_for_torch_compile(head: Head) -> None:
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU()), 8, C)
    put_head(network, head)
    inputs = torch.randn(4, 6)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    for ours, its in zip(network(inputs), compiled(inputs), strict=True):
        torch.testing.assert_close(ours, its)


# A start from a file whose last layer is a plain one


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(theirs().state_dict(), tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.mark.parametrize(("head", "classes"), [("no_bias", 4), ("hyperspherical", 4), ("hyperspherical", 3)])
def test_plain_weights_start_a_network_with_another_head(
    composed: Compose, file: Path, head: str, classes: int
) -> None:
    choice = [f"architecture.head={head}", f"architecture.weights={file}", f"dataset.num_classes={classes}"]
    assembly, state = assemble(check(composed(*QUIET, *choice))), theirs().state_dict()
    found = assembly.training.network.state_dict()
    assert "left out, as the head has no bias: classifier.bias" in assembly.start
    assert all(torch.equal(found[name], state[name]) for name in state if name.startswith("backbone."))
    name = "classifier.weight" if head == "no_bias" else "classifier.parametrizations.weight.original"
    assert torch.equal(found[name], state["classifier.weight"]) if classes == 4 else found[name].shape == (3, 8)
    assert ("the last layer is new: 4 → 3 classes" in assembly.start) == (classes == 3)
    expected = {*state} - {"classifier.weight", "classifier.bias"} | {name}
    assert {*found} == expected


def test_weights_of_a_head_start_the_same_head_alone(composed: Compose, file: Path) -> None:
    chosen = ["architecture.head=hyperspherical", "architecture.temperature=learned"]
    directory = train(composed(*QUIET, *chosen))
    start = f"architecture.weights={directory.checkpoint(6)}"
    again: dict[str, Tensor] = assemble(check(composed(*QUIET, *chosen, start, "seed=3"))).training.network.state_dict()
    assert float(again["classifier.parametrizations.weight.0.log_scale"]) != pytest.approx(2.9957, abs=1e-4)
    with pytest.raises(ConfigError, match=r"missing: classifier\.weight"):
        assemble(check(composed(*QUIET, start)))
    del file


def test_run_with_a_head_is_measured_again_from_its_weights(composed: Compose) -> None:
    """Its config.yaml makes the same network, whose kept weights fit."""
    raw = composed(*QUIET, "architecture.head=hyperspherical", "architecture.temperature=learned", base=SMALL)
    directory = train(raw)
    network = assemble(check(check(raw).raw)).training.network
    stored = directory.checkpoint(6)
    from safetensors.torch import load_file

    network.load_state_dict(load_file(stored))
    assert directory.path.name.startswith("gaussian_mixture-mlp-mse_hyperspherical")
