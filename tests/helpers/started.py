"""A training that starts from the weights in a file: the file, as somebody else makes it, and what the run leaves."""

from __future__ import annotations

from collections import OrderedDict

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ncexp.record import RunDirectory

QUIET = ["tracking.enabled=false", "device=cpu", "optimizer=sgd", "optimizer/schedule=constant", "optimizer.lr=0.05"]
#: float32 sums of 80 examples in another order.
CLOSE = 1e-5


def theirs(num_classes: int = 4, width: int = 8) -> nn.Module:
    """The network of `SMALL` as somebody else writes it, trained for a few steps: its batch norms have seen data."""
    torch.manual_seed(7)
    body = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU()),
        *(nn.Linear(16, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
    )
    network = nn.Sequential(OrderedDict(backbone=body, classifier=nn.Linear(width, num_classes)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):
        loss = network(torch.randn(40, 6)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def last_weights(directory: RunDirectory) -> dict[str, Tensor]:
    return dict(load_file(directory.checkpoint(max(directory.kept_checkpoints()))))
