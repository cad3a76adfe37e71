"""Files of other trainings: which epochs they are of, where in them the weights are, and what is refused."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_networks import make
from safetensors.torch import save_file
from torch import Tensor

from ncexp.architectures import ForeignNetwork
from ncexp.config import ConfigError
from ncexp.record.tensor_file import UnusableFile
from ncexp.training.foreign_checkpoints import find_checkpoints, read_foreign_weights

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


def rng() -> State:
    return {"torch": torch.get_rng_state()}


@pytest.mark.parametrize(
    ("content", "key", "notes"),
    [
        (lambda s: s, None, ()),
        (lambda s: {"epoch": 3, "state_dict": s, "best": 0.1}, None, ("found under state_dict",)),
        (lambda s: {"model_state_dict": s, "rng": rng()}, None, ("found under model_state_dict",)),
        (lambda s: {"model": {"state_dict": s}, "step": 4}, None, ("found under model.state_dict",)),
        (lambda s: {"model": {"state_dict": s}, "ema": s}, "model.state_dict", ()),
        (
            lambda s: {name: tensor.double() if "head" in name else tensor for name, tensor in s.items()},
            None,
            ("saved as torch.float64, measured as torch.float32",),
        ),
        (lambda s: prefixed("module.", s), None, ("names without their prefix module.",)),
        (
            lambda s: prefixed("model._orig_mod.module.", s),
            None,
            ("names without their prefix model._orig_mod.module.",),
        ),
        (
            lambda s: {
                "state_dict": prefixed("model.", s),
                "optimizer": {"state": {0: {"momentum_buffer": s["head.bias"]}}},
            },
            None,
            ("found under state_dict", "names without their prefix model."),
        ),
    ],
)
def test_weights_are_found_and_what_was_assumed_is_said(
    content: Any, key: str | None, notes: tuple[str, ...], state: State, network: ForeignNetwork, tmp_path: Path
) -> None:
    torch.save(content(state), tmp_path / "epoch_1.pt")
    found = read_foreign_weights(tmp_path / "epoch_1.pt", network, key)
    assert found.notes == notes
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[name], state[name]) for name in state)


def test_digest_is_of_the_weights_and_not_of_the_file(state: State, network: ForeignNetwork, tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed("module.", state)}, tmp_path / "a.pth")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "b.safetensors")
    torch.save({**state, "head.bias": state["head.bias"] + 1}, tmp_path / "c.pt")
    digests = [
        read_foreign_weights(tmp_path / name, network, None).digest for name in ("a.pth", "b.safetensors", "c.pt")
    ]
    assert digests[0] == digests[1] != digests[2]


def test_prefix_that_is_the_networks_own_stays(tmp_path: Path) -> None:
    inner = ForeignNetwork(make(num_classes=3), "theirs", (3, 8, 8), 3)
    outer = torch.nn.Sequential()
    outer.add_module("model", make(num_classes=3))
    network = ForeignNetwork(outer, "outer", (3, 8, 8), 3)
    torch.save(network.state_dict(), tmp_path / "epoch_1.pt")
    assert read_foreign_weights(tmp_path / "epoch_1.pt", network, None).notes == ()
    assert read_foreign_weights(tmp_path / "epoch_1.pt", inner, None).notes == ("names without their prefix model.",)


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (
            lambda s: {name.replace("head.w", "fc.w"): tensor for name, tensor in s.items()},
            None,
            r"1 missing: head.weight \(nearest in the file: fc.weight\); 1 unexpected: fc.weight",
        ),
        (lambda s: {**s, "head.bias": torch.zeros(5)}, None, r"1 of another shape: head.bias \(5,\) instead of \(3,\)"),
        (lambda s: {**s, "head.bias": s["head.bias"].to_sparse()}, None, "1 sparse or quantized: head.bias"),
        (lambda s: {"model": s, "ema": s}, None, "expected one place with tensors by name, got 2: model, ema"),
        (lambda s: {"epoch": 3}, None, "expected one place with tensors by name, got none. There: epoch"),
        (lambda s: {"model": s}, "net", "expected net, got no 'net' on the way there. There: model"),
        (lambda s: {"model": {"state": s}}, "model", "expected tensors by name under model, got dict. There: state"),
        (lambda s: {"model": s, "args": argparse.Namespace(lr=1)}, None, "got other objects of Python .*argparse"),
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


@pytest.mark.parametrize(
    ("names", "pattern", "epochs"),
    [
        (["resnet18_epoch_2.pt", "resnet18_epoch_10.pt", "resnet18_epoch_0.pth"], None, [0, 2, 10]),
        (["step_20_loss_3.pt", "step_100_loss_3.pt"], r"step_(\d+)", [20, 100]),
    ],
)
def test_epochs_are_read_from_names(names: list[str], pattern: str | None, epochs: list[int], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    found = find_checkpoints(f"{tmp_path}/*.pt*", pattern)
    assert list(found) == epochs
    assert sorted(path.name for path in found.values()) == sorted(names)


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        ([], None, "checkpoints: expected files, got none for"),
        (["a_1.pt", "notes_2.txt"], None, "expected files .pt .pth .ckpt .bin .safetensors, got .*notes_2.txt"),
        (["best.pt"], None, "expected a number, the epoch, in each name, got .*best.pt"),
        (["a_1.pt", "b_1.pt"], None, "expected one file an epoch, got .*a_1.pt and .*b_1.pt for epoch 1"),
        (["a_1.pt"], r"step_(\d+)", r"expected step_\(\\d\+\) to find a whole number in .*a_1.pt, got no match"),
        (["a_x.pt"], r"a_(\w)", "to find a whole number in .*a_x.pt, got 'x'"),
    ],
)
def test_files_without_clear_epochs_are_refused(
    names: list[str], pattern: str | None, message: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=message):
        find_checkpoints(f"{tmp_path}/*", pattern)


@pytest.mark.parametrize("build", [os.mkfifo, os.mkdir])
def test_checkpoint_that_is_no_file_is_refused(tmp_path: Path, build: Any) -> None:
    """A pipe was waited for without end."""
    build(tmp_path / "epoch_1.pt")
    with pytest.raises(ConfigError, match=r"checkpoints: expected files, got .*epoch_1\.pt, which is none"):
        find_checkpoints(f"{tmp_path}/*", None)
