"""A plain loop with a Recorder in it, for the tests of what it leaves alone and of what it leaves behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from own_loops import NUM_CLASSES, examples, loaders, network, sgd, train_epoch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import ncexp
from ncexp.record import RunDirectory

OPTIONS: dict[str, Any] = {"num_classes": NUM_CLASSES, "classifier": "last", "loss": "mse", "weight_decay": 5e-4}


def record(folder: Path, epochs: range = range(1, 4), **options: Any) -> RunDirectory:
    """Three epochs of a plain loop, recorded under `folder`/mine."""
    torch.manual_seed(0)
    model, (train_loader, test_loader) = network(), loaders()
    optimizer = sgd(model)
    with ncexp.Recorder(folder / "mine", **{**OPTIONS, **options}) as recorder:
        for epoch in epochs:
            train_epoch(model, train_loader, optimizer)
            recorder.evaluate(epoch, model, train_loader, test_loader)
    return RunDirectory(folder / "mine")


class Jittered(TensorDataset):
    """Examples with noise from three generators, as augmentation draws it."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        inputs, labels = super().__getitem__(index)
        return inputs + 0.1 * torch.randn(6) + random.gauss(0, 0.1) + float(np.random.normal(0, 0.1)), labels


def trained_weights(folder: Path | None, generator: torch.Generator | None, compiled: bool = False) -> list[Tensor]:
    """The state after three epochs with everything random in them; folder: of a Recorder, None without one."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    plain = network()
    model = torch.compile(plain, backend="eager") if compiled else plain
    data, test = Jittered(*examples(90).tensors), DataLoader(examples(40, seed=1), batch_size=16, shuffle=True)
    loader = DataLoader(data, batch_size=16, shuffle=True, generator=generator)
    optimizer = sgd(plain)
    recorder = None if folder is None else ncexp.Recorder(folder, **OPTIONS)
    for epoch in range(1, 4):
        train_epoch(model, loader, optimizer)
        if recorder is not None:
            recorder.evaluate(epoch, model, loader, test)
    if recorder is not None:
        recorder.close()
    gradients = [parameter.grad for parameter in plain.parameters() if parameter.grad is not None]
    return [*plain.state_dict().values(), *gradients, torch.rand(3)]


def measurements(run: Path) -> list[Path]:
    return sorted((run / "measurements").glob("*.jsonl"))


class LargestLogit:
    needs = "network"

    def __call__(self, evaluation: Any) -> Iterator[tuple[str, float]]:
        inputs, labels = next(evaluation.data.batches(5))
        logits, features = evaluation.network(inputs)
        (slope,) = torch.autograd.grad(evaluation.loss(logits, labels, features), [features])
        assert slope.isfinite().all()
        yield "logits/largest", float(logits.abs().max())
