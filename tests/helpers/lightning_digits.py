"""A tiny LightningModule on the digits. Tests import it when they run: Lightning takes seconds to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import pytorch as lightning
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ncexp.datasets import Split, digits


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


def fit(folder: Path, *callbacks: Any, fail: bool = False, **options: Any) -> tuple[Any, Digits]:
    torch.manual_seed(0)
    module, (train, test) = Digits(fail), loaders()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{"enable_checkpointing": False, **options},
    )
    trainer.fit(module, train, test)
    return trainer, module
