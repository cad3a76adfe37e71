"""A schedule with `per_step`: the learning rate changes within an epoch, and a resumed run has the same rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import TRAINING
from torch import Tensor, nn

from ncexp.datasets import Split
from ncexp.training import Interrupted, Position, load_resume, save_resume
from ncexp.training.loop import Training
from ncexp.training.losses import MSE, objective_of

#: Steps of an epoch: 10 examples in batches of 4, the last one short.
STEPS, RATE = 3, 0.5


class Line(nn.Module):
    """Logits alone."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(inputs), inputs


def warm_up(epochs: float) -> float:
    return epochs / 4


warm_up.per_step = True  # type: ignore[attr-defined]


def training(schedule: Callable[[float], float]) -> tuple[Training, list[float]]:
    """One, and the learning rates of its steps."""
    torch.manual_seed(0)
    network, rates = Line(), list[float]()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    optimizer.register_step_pre_hook(lambda chosen, *_: rates.append(chosen.param_groups[0]["lr"]))
    data = Split(torch.randn(10, 3), torch.arange(10) % 2)
    loss = objective_of(MSE(2))
    return Training(network, loss, optimizer, schedule, data, batch_size=4, seed=0, position=Position()), rates


def test_per_step_schedule_is_called_with_the_epochs_done_plus_one() -> None:
    ours, rates = training(warm_up)
    summaries = [ours.run_epoch(lambda: False) for _ in range(2)]
    assert rates == pytest.approx([RATE * (1 + step / STEPS) / 4 for step in range(2 * STEPS)], rel=1e-15)
    assert [summary["fit/lr"] for summary in summaries] == [rates[0], rates[STEPS]]  # of the epoch's first step


def test_per_step_rates_of_a_resumed_epoch_are_as_uninterrupted(tmp_path: Path) -> None:
    whole, expected = training(warm_up)
    whole.run_epoch(lambda: False)
    stopped, first = training(warm_up)
    with pytest.raises(Interrupted):
        stopped.run_epoch(lambda: len(first) == 2)
    path = tmp_path / "resume.safetensors"
    save_resume(path, stopped.network, stopped.optimizer, stopped.position, TRAINING)
    resumed, rest = training(warm_up)
    resumed.position = load_resume(path, resumed.network, resumed.optimizer, TRAINING)
    resumed.run_epoch(lambda: False)
    assert first + rest == expected
    assert torch.equal(resumed.network.classifier.weight, whole.network.classifier.weight)  # type: ignore[arg-type]
