"""conf/optimizer: torch's optimizers on all parameters, and the learning rate's schedule.

A schedule is a function of the epoch (1-based) that answers the factor on the learning rate; it has no state, so a
resumed run needs none restored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from ncexp.config import Fraction, NonNegative, Positive

Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]
Schedule = Callable[[int], float]


def sgd(
    parameters: Iterable[nn.Parameter], *, lr: Positive, momentum: Fraction = 0.9, weight_decay: NonNegative = 5e-4
) -> Optimizer:
    """Stochastic gradient descent with heavy-ball momentum; the gradient gains weight_decay · θ."""
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)


def adam(
    parameters: Iterable[nn.Parameter], *, lr: Positive, betas: Betas, weight_decay: NonNegative = 0.0
) -> Optimizer:
    """Adam; the gradient gains weight_decay · θ before it is rescaled."""
    return torch.optim.Adam(parameters, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=True)


def adamw(
    parameters: Iterable[nn.Parameter], *, lr: Positive, betas: Betas, weight_decay: NonNegative = 1e-2
) -> Optimizer:
    """Adam with decoupled decay: θ shrinks by lr · weight_decay a step, outside the objective."""
    return torch.optim.AdamW(parameters, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=True)


def step_schedule(epochs: int, *, decays: Annotated[int, Field(ge=0)] = 2, factor: Positive = 0.1) -> Schedule:
    """factor^k after k/(decays + 1) of the epochs, rounded down: with 350 epochs and 2 decays after 116 and 233."""
    return lambda epoch: factor ** sum(epoch > epochs * k // (decays + 1) for k in range(1, decays + 1))


def constant_schedule(epochs: int) -> Schedule:
    """1 throughout."""
    del epochs
    return lambda epoch: 1.0


def cosine_schedule(epochs: int) -> Schedule:
    """½ (1 + cos(π (epoch − 1)/epochs)): 1 in the first epoch, towards 0 in the last."""
    return lambda epoch: (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
