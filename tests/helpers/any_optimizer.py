"""What tests of optimizers share: torch's own by name, and a small run whose optimizer is left open."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

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
