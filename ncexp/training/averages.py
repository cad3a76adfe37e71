"""`optimizer.average`: running means of the weights of a training, on which it is evaluated, and which are kept.

Means are of all that a checkpoint of weights holds: of parameters, and of buffers of real numbers, such as batch norm's
running statistics; what counts (batches seen) is that of the last step. The training itself never sees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ncexp.config import Steps

_PREFIX, _COUNT = "average/", "averaged"


class Averages:
    """The running mean of a network's state.

    ema: after every step, θ̄ ← θ̄ + (1 − β)(θ − θ̄), β = `average_decay`; the first step's weights begin it.
    swa: after every epoch once more than `average_from` of the epochs are done, θ̄ ← θ̄ + (θ − θ̄)/(n + 1), the mean of n
    epochs' weights (Izmailov et al. 2018); before, θ̄ is θ. Their batch norm statistics are those of a pass of θ̄ over
    the training data; here they are means as well.
    """

    def __init__(self, network: nn.Module, steps: Steps, epochs: int) -> None:
        assert steps.average is not None
        self._network, self._steps = network, steps
        self._begins = steps.average_from * epochs
        self._means = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self._count = 0
        #: The network's own weights, while the means are in their place.
        self._own: dict[str, Tensor] = {}

    def after_step(self) -> None:
        """Take up the weights of a step."""
        if self._steps.average == "ema":
            self._add(1 - self._steps.average_decay)

    def after_epoch(self, epoch: int) -> None:
        """Take up the weights of an epoch, 1-based."""
        if self._steps.average == "swa" and epoch > self._begins:
            self._add(1 / (self._count + 1))

    @torch.no_grad()
    def _add(self, share: float) -> None:
        share = 1.0 if self._count == 0 else share
        for name, tensor in self._network.state_dict().items():
            mean = self._means[name]
            if share < 1 and mean.is_floating_point():
                mean.lerp_(tensor, share)
            else:
                mean.copy_(tensor)
        self._count += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the network has the means; after it its own weights again, to the last bit."""
        if self._count == 0:
            yield
            return
        self._own = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}
        self._set(self._means)
        try:
            yield
        finally:
            self._set(self._own)
            self._own = {}

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Within it, and within `in_place`, the network has its own weights all the same."""
        if not self._own:
            yield
            return
        self._set(self._own)
        try:
            yield
        finally:
            self._set(self._means)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._network.state_dict().items():
            tensor.copy_(values[name])

    def tensors(self) -> dict[str, Tensor]:
        """What goes into the file to resume from."""
        return {_COUNT: torch.tensor(self._count), **{f"{_PREFIX}{name}": mean for name, mean in self._means.items()}}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave, of the same network."""
        self._count = int(tensors[_COUNT])
        for name, mean in self._means.items():
            mean.copy_(tensors[f"{_PREFIX}{name}"])
