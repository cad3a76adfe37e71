"""A tiny LightningModule on the digits, recorded: the numbers of a Recorder in a plain loop, the training untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import required
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ncexp
from ncexp.datasets import Split, digits
from ncexp.record import State, read_run

lightning = required("lightning.pytorch")

from ncexp.integrations.lightning import RecorderCallback  # noqa: E402  (only where Lightning is)


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    data = digits.load(examples_per_class=20)
    assert isinstance(data.train, Split)
    assert isinstance(data.test, Split)
    train, test = (TensorDataset(part.inputs[:300], part.labels[:300]) for part in (data.train, data.test))
    return DataLoader(train, 32, shuffle=True), DataLoader(test, 64)


class Digits(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2))
        self.model, self.fc, self.fail = body, nn.Linear(32, 10), fail

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.model(inputs))
        return logits

    def training_step(self, batch: Any, index: int) -> Tensor:
        if self.fail and self.current_epoch == 1:
            raise RuntimeError("out of luck")
        inputs, labels = batch
        return nn.functional.cross_entropy(self(inputs), labels)

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).double().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.01)


def fit(folder: Path, *callbacks: Any, fail: bool = False) -> tuple[Any, Digits]:
    torch.manual_seed(0)
    module, (train, test) = Digits(fail), loaders()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    trainer.fit(module, train, test)
    return trainer, module


def recorder(folder: Path) -> ncexp.Recorder:
    return ncexp.Recorder(folder, num_classes=10, classifier="fc", loss="cross_entropy", analyses=["collapse"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightning_training_is_recorded_and_left_alone(tmp_path: Path) -> None:
    _, without = fit(tmp_path)
    with recorder(tmp_path / "mine") as recording:
        trainer, module = fit(tmp_path, RecorderCallback(recording, evaluate_at=[1, 3]))
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in without.state_dict().items())
    run = read_run(tmp_path / "mine")
    assert (run.state, [one["epoch"] for one in run.records]) == (State.COMPLETED, [1, 3])
    assert (run.facts["num_train"], run.facts["num_test"]) == (200, 300)
    alone = recorder(tmp_path / "alone").evaluate(3, module, *loaders())
    assert {name: value for name, value in run.records[-1].items() if "fit" not in name} == alone
    name = "train/collapse/nc1_trace"
    assert float(trainer.callback_metrics[name]) == pytest.approx(alone[name], rel=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightning_training_that_fails_is_interrupted(tmp_path: Path) -> None:
    def failing() -> None:
        with recorder(tmp_path / "mine") as recording:
            fit(tmp_path, RecorderCallback(recording), fail=True)

    with pytest.raises(RuntimeError, match="out of luck"):
        failing()
    run = read_run(tmp_path / "mine")
    assert (run.state, run.message, len(run.records)) == (State.INTERRUPTED, "RuntimeError: out of luck", 1)
