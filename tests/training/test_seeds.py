"""Each seed is a training of its own, whatever the functions of the user's own seed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Compose
from torch import Tensor

from ncexp.config import ConfigError, check
from ncexp.training import assemble

THEIRS = """
import random
import numpy, torch
from torch import nn

def examples():
    labels = numpy.arange(40) % 4
    inputs = numpy.sin(numpy.arange(40.0 * 6)).reshape(40, 6)
    return (inputs, labels), (inputs, labels)

def seeds_nothing():
    return examples()

def seeds_torch():
    torch.manual_seed(3)
    return examples()

def seeds_everything():
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(3)
    return examples()

def drawn(seed=None):
    "Weights from all three generators; seed: of its own, for torch."
    if seed is not None:
        torch.manual_seed(seed)
    layer = nn.Linear(6, 4)
    nn.init.constant_(layer.weight[:, 0], random.random())
    nn.init.constant_(layer.weight[:, 1], float(numpy.random.rand()))
    return nn.Sequential(nn.Flatten(), layer)
"""


@pytest.fixture
def built(composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """built("seeds_torch", seed) → the initial weights, and the number that the training draws next."""
    (tmp_path / "functions_of_theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "functions_of_theirs", raising=False)

    def build(factory: str, seed: int, *more: str) -> Tensor:
        words = [
            "dataset=module", f"dataset.factory=functions_of_theirs.{factory}", "architecture=module",
            "architecture.factory=functions_of_theirs.drawn", f"seed={seed}", "analysis=[]", *more,
        ]  # fmt: skip
        network = assemble(check(composed(*words, base=["loss=mse", "batch_size=10", "epochs=1"]))).training.network
        parameters = [parameter.detach().flatten() for parameter in network.parameters()]
        return torch.cat([*parameters, torch.rand(1)])

    return build


@pytest.mark.parametrize("factory", ["seeds_torch", "seeds_everything"])
def test_three_seeds_are_three_trainings_whatever_the_data_seed(built: Any, factory: str) -> None:
    found = [built(factory, seed) for seed in (0, 1, 2)]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert (found[one] != found[other]).all()
    assert torch.equal(found[1], built(factory, 1))
    assert torch.equal(found[1], built("seeds_nothing", 1))


def test_network_that_seeds_itself_is_refused(built: Any) -> None:
    with pytest.raises(ConfigError, match=r"architecture: expected a network that begins as seed=1 has it, .* with 3"):
        built("seeds_nothing", 1, "+architecture.seed=3")
