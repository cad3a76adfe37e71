"""Checkpoints: stopped and resumed equals never stopped, to the last bit; anything else than ours is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TRAINING
from torch import Tensor, nn

from ncexp.datasets import Split
from ncexp.record.tensor_file import UnusableFile, write_tensors
from ncexp.training import (
    Interrupted,
    Position,
    Training,
    load_resume,
    load_weights,
    objective_of,
    save_resume,
    save_weights,
)
from ncexp.training.losses import CrossEntropy
from ncexp.training.optimizers import adam, adamw, cosine_schedule, sgd

NUM_CLASSES, NUM_EXAMPLES, BATCH_SIZE, EPOCHS = 3, 50, 16, 3
Optimize = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Optimize] = {
    "momentum": lambda p: sgd(p, lr=0.05),
    "no momentum": lambda p: sgd(p, lr=0.05, momentum=0.0),
    "adam": lambda p: adam(p, lr=0.01, betas=[0.9, 0.999]),
    "adamw": lambda p: adamw(p, lr=0.01, betas=[0.9, 0.999]),
    "adam, plain": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


class Convolutions(nn.Module):
    """Batch normalisation and dropout: state beside the weights, and a use of the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3))
        self.classifier = nn.Linear(6, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(inputs).mean((2, 3))
        return self.classifier(features), features


def training(optimize: Optimize, layout: torch.memory_format = torch.channels_last, seed: int = 0) -> Training:
    images = torch.randn(NUM_EXAMPLES, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(seed)
    network = Convolutions().to(memory_format=layout)  # type: ignore[call-overload]
    return Training(
        network=network,
        loss=objective_of(CrossEntropy(NUM_CLASSES)),
        optimizer=optimize(network.parameters()),
        schedule=cosine_schedule(EPOCHS),
        data=Split(images, torch.arange(NUM_EXAMPLES) % NUM_CLASSES),
        batch_size=BATCH_SIZE,
        seed=0,
        position=Position(),
    )


def finish(ours: Training) -> tuple[list[dict[str, float]], dict[str, Tensor], Tensor]:
    """The records of the epochs that are left, the weights at the end, and the state of torch's generator."""
    records = []
    while ours.position.epoch <= EPOCHS:
        records.append(ours.run_epoch(lambda: False))
    return records, ours.network.state_dict(), torch.get_rng_state()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [4, 6])  # an epoch's end, and the middle of the second
def test_resumed_training_equals_an_uninterrupted_one_to_the_last_bit(
    name: str, layout: torch.memory_format, steps: int, tmp_path: Path
) -> None:
    records, weights, generator = finish(training(OPTIMIZERS[name], layout))
    stopped, path, calls = training(OPTIMIZERS[name], layout), tmp_path / "resume.safetensors", 0

    def should_stop() -> bool:
        nonlocal calls
        calls += 1
        return calls == 6

    if steps == 4:
        stopped.run_epoch(lambda: False)
    else:
        stopped.run_epoch(should_stop)
        with pytest.raises(Interrupted):
            stopped.run_epoch(should_stop)
    save_resume(path, stopped.network, stopped.optimizer, stopped.position, TRAINING)
    resumed = training(OPTIMIZERS[name], layout, seed=7)  # other weights, another state of the generator
    resumed.position = load_resume(path, resumed.network, resumed.optimizer, TRAINING)
    assert (resumed.position.epoch, resumed.position.step) == (2, steps - 4)
    other_records, other_weights, other_generator = finish(resumed)
    assert other_records == records[1:]
    assert all(torch.equal(weights[key], other_weights[key]) for key in weights)
    assert torch.equal(generator, other_generator)


def test_saved_twice_gives_the_same_bytes_also_after_resuming(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    ours = training(OPTIMIZERS["adam"])
    ours.run_epoch(lambda: False)
    save_resume(first, ours.network, ours.optimizer, ours.position, TRAINING)
    other = training(OPTIMIZERS["adam"], seed=7)
    other.position = load_resume(first, other.network, other.optimizer, TRAINING)
    save_resume(again, other.network, other.optimizer, other.position, TRAINING)
    assert again.read_bytes() == first.read_bytes()


def test_resumed_state_lies_in_memory_as_its_parameter(tmp_path: Path) -> None:
    ours, path = training(OPTIMIZERS["momentum"]), tmp_path / "resume"
    ours.run_epoch(lambda: False)
    save_resume(path, ours.network, ours.optimizer, ours.position, TRAINING)
    other = training(OPTIMIZERS["momentum"])
    load_resume(path, other.network, other.optimizer, TRAINING)
    states = other.optimizer.state.items()
    assert len(states) == 6
    for parameter, state in states:
        assert state["momentum_buffer"].stride() == parameter.stride()


def test_weights_come_back_bit_for_bit_buffers_included(tmp_path: Path) -> None:
    ours, other, path = training(OPTIMIZERS["momentum"]), Convolutions(), tmp_path / "epoch_0001.safetensors"
    ours.run_epoch(lambda: False)
    save_weights(path, ours.network, TRAINING, epoch=1)
    load_weights(path, other, TRAINING)
    state = other.state_dict()
    assert "body.1.running_mean" in state
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.network.state_dict().items())


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    """The training key is the same, the class in somebody's package is not: their code has changed."""
    path = tmp_path / "epoch_0001.safetensors"
    write_tensors(path, {"classifier.weight": torch.zeros(2, 2)}, "weights", TRAINING, epoch=1)
    with pytest.raises(UnusableFile, match=f"{path}: "):
        load_weights(path, Convolutions(), TRAINING)


def test_optimizer_whose_state_is_neither_tensors_nor_json_is_refused(tmp_path: Path) -> None:
    ours = training(OPTIMIZERS["momentum"])
    ours.optimizer.state[ours.network.classifier.weight]["seen"] = {1, 2}  # type: ignore[union-attr, index]
    with pytest.raises(ValueError, match="optimizer: expected a state of tensors and JSON's values"):
        save_resume(tmp_path / "resume", ours.network, ours.optimizer, ours.position, TRAINING)
    assert not (tmp_path / "resume").exists()
