"""Files of other trainings: where in them the weights are, what is assumed and said, and what is refused."""

from __future__ import annotations

import argparse
import datetime
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_networks import make
from safetensors.torch import save_file
from torch import Tensor

from ncexp.architectures import ForeignNetwork
from ncexp.record.tensor_file import UnusableFile
from ncexp.training.foreign_checkpoints import read_foreign_weights

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    torch.manual_seed(1)
    return dict(make(num_classes=3).state_dict())


@pytest.fixture
def network() -> ForeignNetwork:
    torch.manual_seed(2)
    return ForeignNetwork(make(num_classes=3), "theirs", (3, 8, 8), 3)


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def without_counters(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if "tracked" not in name}


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (lambda s: s, ()),
        (lambda s: {"epoch": 3, "state_dict": s, "best": 0.1}, ("found under state_dict",)),
        (lambda s: {"model_state_dict": s, "rng": {"torch": torch.get_rng_state()}}, ("found under model_state_dict",)),
        (lambda s: {"model": {"state_dict": s}, "step": 4}, ("found under model.state_dict",)),
        (lambda s: s | {"head.bias": s["head.bias"].double()}, ("saved as torch.float64, measured as torch.float32",)),
        (lambda s: prefixed("module.", s), ("names without their prefix module.",)),
        (lambda s: prefixed("_forward_module.net.", s), ("names without their prefix _forward_module.net.",)),
        (
            lambda s: prefixed("module.", s) | {"n_averaged": torch.tensor(3)},
            ("names without their prefix module.", "left out, as no part of the network: n_averaged"),
        ),
        (
            lambda s: {"state_dict": {**s, "criterion.weight": torch.ones(3)}, "args": argparse.Namespace(lr=1)},
            ("found under state_dict", "left out, as no part of the network: criterion.weight"),
        ),
        (without_counters, ("without num_batches_tracked of 1 layers, which evaluation does not read",)),
        (
            lambda s: {"state_dict": prefixed("model.", s), "optimizer": {"state": {0: {"buffer": s["head.bias"]}}}},
            ("found under state_dict", "names without their prefix model."),
        ),
    ],
)
def test_weights_are_found_and_what_was_assumed_is_said(
    content: Any, notes: tuple[str, ...], state: State, network: ForeignNetwork, tmp_path: Path
) -> None:
    torch.save(content(state), tmp_path / "epoch_1.pt")
    found = read_foreign_weights(tmp_path / "epoch_1.pt", network)
    assert found.notes == notes
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[name], state[name]) for name in state)


def test_place_that_is_asked_for_is_read(state: State, network: ForeignNetwork, tmp_path: Path) -> None:
    average = {name: 2 * tensor for name, tensor in state.items()}
    torch.save({"model": {"state_dict": state}, "ema": average}, tmp_path / "a.pt")
    for key, factor in (("model.state_dict", 1), ("ema", 2)):
        found = read_foreign_weights(tmp_path / "a.pt", network, key)
        assert found.notes == ()
        assert torch.equal(found.tensors["head.weight"], factor * state["head.weight"])


def test_prefix_is_added_or_stays_where_it_is_the_networks_own(
    state: State, network: ForeignNetwork, tmp_path: Path
) -> None:
    wrapped = torch.nn.Sequential()
    wrapped.add_module("vit", make(num_classes=3))
    outer = ForeignNetwork(wrapped, "theirs", (3, 8, 8), 3)
    torch.save(state, tmp_path / "a.pt")
    found = read_foreign_weights(tmp_path / "a.pt", outer)
    assert found.notes == ("names with the prefix vit. before them",)
    assert torch.equal(found.tensors["vit.head.weight"], state["head.weight"])
    torch.save(outer.state_dict(), tmp_path / "b.pt")
    assert read_foreign_weights(tmp_path / "b.pt", outer).notes == ()
    assert read_foreign_weights(tmp_path / "b.pt", network).notes == ("names without their prefix vit.",)


@pytest.mark.parametrize("prefix", ["student.", "student"])
def test_one_of_two_networks_is_chosen_by_its_prefix(
    prefix: str, state: State, network: ForeignNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "a.pt"
    torch.save(prefixed("teacher.", {name: 2 * one for name, one in state.items()}) | prefixed("student.", state), path)
    with pytest.raises(UnusableFile, match=r"got those of 2. Say checkpoint.prefix=teacher. or checkpoint.prefix=stud"):
        read_foreign_weights(path, network)
    found = read_foreign_weights(path, network, prefix=prefix)
    assert torch.equal(found.tensors["head.weight"], state["head.weight"])
    assert "left out, as no part of the network: teacher.body.0.weight" in found.notes[0]


class Tied(torch.nn.Module):
    """Two names of one weight, of which safetensors keeps one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.second(self.first(inputs).relu()).relu())


def test_weight_of_two_names_is_found_under_one(tmp_path: Path) -> None:
    saved, network = Tied(), ForeignNetwork(Tied(), "tied", (4,), 3)
    content = {name: one for name, one in saved.state_dict().items() if name != "second.weight"}
    save_file(content, tmp_path / "a.safetensors")
    found = read_foreign_weights(tmp_path / "a.safetensors", network)
    assert found.notes == ("second.weight is first.weight, one tensor of the network",)
    network.load_state_dict(found.tensors)
    inputs = torch.randn(5, 4)
    assert torch.equal(network.model(inputs), saved(inputs))


@pytest.mark.parametrize(
    "data",
    [
        argparse.Namespace(lr=1, betas=[0.9], folder=Path("x")),
        {"best": np.float64(3), "count": np.int64(2), "rng": np.random.default_rng(0).bit_generator.state},
        np.arange(3.0),
        datetime.datetime(2026, 1, 1),
    ],
    ids=["namespace", "numpy", "array", "date"],
)
def test_plain_data_beside_the_weights_are_read(
    data: Any, state: State, network: ForeignNetwork, tmp_path: Path
) -> None:
    torch.save({"state_dict": state, "args": data, "epoch": np.int64(4)}, tmp_path / "last.pth.tar")
    found = read_foreign_weights(tmp_path / "last.pth.tar", network)
    assert found.epochs["the entry epoch of each file"] == 4
    assert torch.equal(found.tensors["head.weight"], state["head.weight"])


def test_objects_are_refused_with_the_command_that_makes_a_clean_file(
    state: State, network: ForeignNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "it's.pt"
    for content in ({"state_dict": state, "epoch": 4, "loss": torch.nn.MSELoss()}, make(num_classes=3)):
        torch.save(content, path)
        advice = r"which are never loaded. If you trust it, make a file without: python -c"
        with pytest.raises(UnusableFile, match=advice) as refused:
            read_foreign_weights(path, network)
        command = shlex.split(str(refused.value).partition("without: ")[2])
        assert command[:2] == ["python", "-c"]
        exec(command[2], {})
        clean = read_foreign_weights(tmp_path / "it's_clean.pt", network)
        assert clean.tensors.keys() == state.keys()
        assert clean.epochs == ({"the entry epoch of each file": 4} if isinstance(content, dict) else {})


def test_torchscript_is_refused_without_torchs_advice(network: ForeignNetwork, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; its files are there
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(UnusableFile, match=r"got a TorchScript program, .* Save its weights: torch.save") as refused:
        read_foreign_weights(tmp_path / "a.pt", network)
    assert "weights_only" not in str(refused.value)


def test_digest_is_of_the_weights_and_not_of_the_file(state: State, network: ForeignNetwork, tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed("module.", state)}, tmp_path / "a.pth")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "b.safetensors")
    torch.save({**state, "head.bias": state["head.bias"] + 1}, tmp_path / "c.pt")
    digests = [
        read_foreign_weights(tmp_path / name, network, None).digest for name in ("a.pth", "b.safetensors", "c.pt")
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (
            lambda s: {name.replace("head.w", "fc.w"): tensor for name, tensor in s.items()},
            None,
            r"1 missing: head.weight \(nearest in the file: fc.weight\); 1 unexpected: fc.weight",
        ),
        (lambda s: {**s, "head.bias": torch.zeros(5)}, None, r"1 of another shape: head.bias \(5,\) instead of \(3,\)"),
        (
            lambda s: {"state_dict": s, "state_dict_ema": s},
            None,
            "got 2: state_dict, state_dict_ema.*Say checkpoint.key=state_dict or checkpoint.key=state_dict_ema",
        ),
        (
            lambda s: {**s, "body.9.weight": torch.ones(1)},
            None,
            "expected the weights of this network, got 1 unexpected: body.9.weight",
        ),
        (lambda s: {**s, "head.bias": s["head.bias"].to_sparse()}, None, "1 sparse or quantized: head.bias"),
        (lambda s: {"epoch": 3}, None, "expected one place with tensors by name, got none. There: epoch"),
        (lambda s: {"model": s}, "net", "expected tensors by name under net, got nothing. There: model"),
        (lambda s: {"model": {"state": s}}, "model", "expected tensors by name under model, got dict. There: state"),
        (lambda s: {"model": s, "loss": torch.nn.MSELoss()}, None, "got other objects of Python .*MSELoss"),
    ],
)
def test_file_that_does_not_fit_is_refused_by_its_names(
    content: Any, key: str | None, message: str, state: State, network: ForeignNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "epoch_1.pt"
    torch.save(content(state), path)
    with pytest.raises(UnusableFile, match=message) as refused:
        read_foreign_weights(path, network, key)
    assert str(refused.value).startswith(f"{path}: expected ")


@pytest.mark.parametrize("name", ["epoch_1.pt", "epoch_1.safetensors"])
def test_damaged_file_is_refused_by_name(name: str, state: State, network: ForeignNetwork, tmp_path: Path) -> None:
    torch.save(state, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableFile, match=re.escape(f"{tmp_path / name}: expected a file of weights, got one that")):
        read_foreign_weights(tmp_path / name, network, None)
