"""Checkpoints: the weights of an epoch, to be measured, and all that a training needs to go on as if never stopped.

Both are safetensors files without pickle (`ncexp.record.tensor_file`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.record.tensor_file import UnusableFile, read_tensors, write_tensors
from ncexp.training.averages import Averages


@dataclass
class Position:
    """Where a training stands: `epoch` (1-based) is being trained, `step` of its batches are done.

    loss_sum and wrong add up loss · examples and the misclassified examples over these steps; perp_share is the largest
    L_LS^⊥/L of them, 0 where the last layer is trained.
    """

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    wrong: int = 0
    perp_share: float = 0.0


def save_weights(path: Path, network: nn.Module, training: str, epoch: int) -> None:
    """Write the network's state after `epoch`, atomically; training: the training key."""
    write_tensors(path, network.state_dict(), "weights", training, epoch=epoch)


def load_weights(path: Path, network: nn.Module, training: str) -> None:
    """Load what `save_weights` wrote. Raises UnusableFile, which names the file, for any other content."""
    tensors, _ = read_tensors(path, "weights", training)
    _fill(network, tensors, path)


def save_resume(
    path: Path,
    network: nn.Module,
    optimizer: Optimizer,
    position: Position,
    training: str,
    more: Mapping[str, Tensor] | None = None,
    **notes: Any,
) -> None:
    """Write network, optimizer, position and the random generators, atomically; more: tensors whose names begin
    otherwise; notes: go to the header.

    Raises ValueError where the optimizer's state holds what is neither a tensor nor JSON.
    """
    state = optimizer.state_dict()
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()} | dict(more or {})
    numbers: dict[str, Any] = {}
    lists: dict[str, int] = {}  # of tensors, as L-BFGS keeps them: entry → length; each is an entry of its own
    for index, fields in state["state"].items():
        for field, value in fields.items():
            entries = {f"optimizer/{index}/{field}": value}
            if isinstance(value, list) and any(isinstance(one, Tensor) for one in value):
                lists[f"optimizer/{index}/{field}"] = len(value)
                entries = {f"optimizer/{index}/{field}/{place}": one for place, one in enumerate(value)}
            for name, one in entries.items():
                (tensors if isinstance(one, Tensor) else numbers)[name] = one
    tensors["generator"] = torch.get_rng_state()
    if torch.cuda.is_initialized():  # a run on the CPU of a machine with GPUs leaves them alone
        for index, generator in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"device_generator/{index:03d}"] = generator
    header = {"position": asdict(position), "groups": state["param_groups"], "numbers": numbers, **notes}
    header |= {"lists": lists} if lists else {}
    try:
        json.dumps(header)
    except TypeError as error:
        raise ValueError(f"optimizer: expected a state of tensors and JSON's values, got another ({error}).") from None
    write_tensors(path, tensors, "resume", training, **header)


def load_resume(
    path: Path, network: nn.Module, optimizer: Optimizer, training: str, averages: Averages | None = None
) -> Position:
    """Restore what `save_resume` wrote into network, optimizer, averages and generators; returns the position.

    Raises UnusableFile, which names the file, where it is cut, damaged or of another training.
    """
    tensors, header = read_tensors(path, "resume", training)
    _fill(network, {name[8:]: value for name, value in tensors.items() if name.startswith("network/")}, path)
    state: dict[int, dict[str, Any]] = {}
    entries = {name: one for name, one in tensors.items() if name.startswith("optimizer/")} | header["numbers"]
    for name, length in header.get("lists", {}).items():
        entries[name] = [entries.pop(f"{name}/{place}") for place in range(length)]
    for name, value in entries.items():
        _, index, field = name.split("/", 2)
        state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": header["groups"]})
    for parameter, fields in optimizer.state.items():  # the file has no layout, and fused steps want one for both
        for field, value in fields.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                fields[field] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    if averages is not None:
        averages.restore(tensors)
    torch.set_rng_state(tensors["generator"])
    generators = [tensors[name] for name in sorted(tensors) if name.startswith("device_generator/")]
    if generators and len(generators) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(generators)
    return Position(**header["position"])


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:  # the key is the same, the code of the network is not
        cause = " ".join(str(error).split())
        raise UnusableFile(f"{path}: expected the weights of this network, got those of another ({cause}).") from None
