"""A loss that is no mean over the examples is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import Compose
from torch import Tensor
from torch.nn import functional

import ncexp
from ncexp.config import ConfigError, check
from ncexp.training import assemble, objective_of, refuse_other_than_scalar

WEIGHT = torch.zeros(3, 5)
LOSSES: dict[str, tuple[Any, str]] = {
    "unreduced": (lambda z, y: functional.cross_entropy(z, y, reduction="none"), r"a Tensor of shape \(2,\)"),
    "one element": (lambda z, y: functional.cross_entropy(z, y)[None], r"a Tensor of shape \(1,\)"),
    "number": (lambda z, y: functional.cross_entropy(z, y).item(), "a float for"),
    "detached": (lambda z, y: functional.cross_entropy(z, y).detach(), r"a Tensor of shape \(\)"),
}


class Unreduced:
    """Cross-entropy of each example."""

    def __init__(self, num_classes: int) -> None:
        del num_classes

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="none")


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
    raw["loss"] = {"name": "unreduced", "_target_": f"{__name__}.Unreduced"}
    with pytest.raises(ConfigError, match=r"^loss: expected a scalar tensor .* Reduce it with \.mean\(\)"):
        assemble(check(raw))
    assert not outputs.exists()


def test_recorder_refuses_an_unreduced_loss_before_it_writes(tmp_path: Path) -> None:
    model = torch.nn.Linear(6, 4)
    data = [(torch.randn(8, 6), torch.arange(8) % 4)]
    with (
        pytest.raises(ValueError, match=r"^loss: expected a scalar tensor"),
        ncexp.Recorder(tmp_path / "run", num_classes=4, classifier="", loss=LOSSES["unreduced"][0]) as recorder,
    ):
        recorder.evaluate(1, model, data)
    assert not (tmp_path / "run").exists()
