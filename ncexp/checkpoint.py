"""Everything that a training needs to go on as if it had never stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ncexp.files import write_atomically


@dataclass
class Position:
    """Where a training stands: `epoch` (1-based) is being trained, `step` of its batches are done.

    loss_sum and wrong add up loss · examples and the misclassified examples over these steps.
    """

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    wrong: int = 0


def save(path: Path, network: nn.Module, optimizer: Optimizer, position: Position) -> None:
    """Write network, optimizer, position and the random generators, atomically."""
    content: dict[str, Any] = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": asdict(position),
        "generator": torch.get_rng_state(),
        "device_generators": torch.cuda.get_rng_state_all(),
    }
    write_atomically(path, lambda file: torch.save(content, file))


def load(path: Path, network: nn.Module, optimizer: Optimizer, device: torch.device) -> Position:
    """Restore what `save` wrote into network, optimizer and generators; answers the position."""
    content = torch.load(path, map_location=device, weights_only=True)
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["generator"].cpu())
    if len(content["device_generators"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in content["device_generators"]])
    return Position(**content["position"])
