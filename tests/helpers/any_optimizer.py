"""What tests of optimizers share: torch's own by name, and a small run whose optimizer is left open."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.config import Steps
from ncexp.datasets import Split
from ncexp.training import Position, Training, objective_of
from ncexp.training.losses import CrossEntropy
from ncexp.training.optimizers import constant_schedule

NUM_CLASSES, NUM_EXAMPLES, BATCH_SIZE = 3, 44, 16  # the last batch has 12
RATE = 0.1

#: A small run whose optimizer is left open.
CLOSED = [
    "dataset=gaussian_mixture", "dataset.num_classes=4", "dataset.num_features=6", "dataset.examples_per_class=20",
    "architecture=mlp", "architecture.hidden=[8]", "loss=mse", "epochs=2", "batch_size=32", "device=cpu",
]  # fmt: skip


def torchs() -> list[str]:
    """The public optimizers of this torch."""
    found = [getattr(torch.optim, name) for name in dir(torch.optim)]
    kinds = [one for one in found if isinstance(one, type) and issubclass(one, Optimizer) and one is not Optimizer]
    return [kind.__name__ for kind in kinds]


#: Of torch's, those that train no network here; what is said.
REFUSED = {"Muon": "only supports 2D parameters", "SparseAdam": "dense gradients, which every network here has"}


def chosen(name: str) -> list[str]:
    """The overrides that choose one of torch's."""
    return ["optimizer=module", f"optimizer._target_=torch.optim.{name}"]


class Network(nn.Module):
    def __init__(self, normalised: bool) -> None:
        super().__init__()
        norm: nn.Module = nn.BatchNorm1d(8) if normalised else nn.Identity()
        self.body = nn.Sequential(nn.Linear(5, 8), norm, nn.ReLU())
        self.classifier = nn.Linear(8, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(inputs)
        return self.classifier(features), features


def data() -> Split:
    inputs = torch.randn(NUM_EXAMPLES, 5, generator=torch.Generator().manual_seed(1))
    return Split(inputs, torch.arange(NUM_EXAMPLES) % NUM_CLASSES)


def training(steps: Steps, normalised: bool = True, **options: Any) -> Training:
    torch.manual_seed(0)
    network = Network(normalised)
    return Training(
        network=network,
        loss=objective_of(CrossEntropy(NUM_CLASSES)),
        optimizer=torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=0.01),
        data=data(),
        batch_size=BATCH_SIZE,
        seed=0,
        position=Position(),
        steps=steps,
        **{"schedule": constant_schedule(2), **options},
    )
