"""conf/optimizer: update rules with the decay of every parameter, and the learning rate's schedule.

weight_decay: d of every parameter; decay_of: pattern of names → another d (``{*.bias: 0.0}``), the first that matches
counts; decoupled: share of d by which parameters shrink beside the gradient; see `ncexp.training.decay`.

A schedule is a function of the epoch (1-based) that returns the factor on the learning rate; it has no state, so a
resumed run needs none restored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from ncexp.config import ADDED, Fraction, NonNegative, Positive
from ncexp.training.decay import groups, shrink_before_steps
from ncexp.training.update_rules import MuonWithAdamW, SignDescent

Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]
Share = Annotated[float, Field(ge=0, le=1), ADDED]
Decays = Annotated[dict[str, NonNegative] | None, ADDED]
Schedule = Callable[[float], float]


def sgd(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Positive,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 5e-4,
    decoupled: Share = 0.0,
    decay_of: Decays = None,
) -> Optimizer:
    """Stochastic gradient descent with heavy-ball momentum; the gradient gains its decay · θ."""
    parts = groups(parameters, weight_decay, decay_of, decoupled)
    return _shrinking(torch.optim.SGD(parts, lr=lr, momentum=momentum, fused=True), decoupled)


def sign(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Positive,
    momentum: Fraction = 0.0,
    weight_decay: NonNegative = 5e-4,
    decoupled: Share = 0.0,
    decay_of: Decays = None,
) -> Optimizer:
    """Descent by the sign of the gradient, which gains its decay · θ before: `SignDescent`."""
    parts = groups(parameters, weight_decay, decay_of, decoupled)
    return _shrinking(SignDescent(parts, lr=lr, momentum=momentum), decoupled)


def adam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Positive,
    betas: Betas,
    weight_decay: NonNegative = 0.0,
    decoupled: Share = 0.0,
    decay_of: Decays = None,
) -> Optimizer:
    """Adam; the gradient gains its decay · θ before it is rescaled."""
    parts = groups(parameters, weight_decay, decay_of, decoupled)
    return _shrinking(torch.optim.Adam(parts, lr=lr, betas=(betas[0], betas[1]), fused=True), decoupled)


def adamw(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Positive,
    betas: Betas,
    weight_decay: NonNegative = 1e-2,
    decay_of: Decays = None,
) -> Optimizer:
    """Adam with decoupled decay: θ shrinks by lr · weight_decay a step, outside the objective."""
    parts = groups(parameters, weight_decay, decay_of)
    return torch.optim.AdamW(parts, lr=lr, betas=(betas[0], betas[1]), fused=True)


def muon(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Positive,
    betas: Betas,
    momentum: Fraction = 0.95,
    weight_decay: NonNegative = 1e-2,
    decay_of: Decays = None,
) -> Optimizer:
    """torch's Muon for matrices, AdamW for all else, decay decoupled: `MuonWithAdamW`. betas are AdamW's.

    Raises ValueError where this torch has no Muon.
    """
    parts = groups(parameters, weight_decay, decay_of)
    matrices, others = _matrices(parts, True), _matrices(parts, False)
    return MuonWithAdamW(matrices, others, lr=lr, momentum=momentum, betas=(betas[0], betas[1]))


def _shrinking(optimizer: Optimizer, decoupled: float) -> Optimizer:
    return shrink_before_steps(optimizer) if decoupled else optimizer


def _matrices(parts: list[dict[str, Any]], wanted: bool) -> list[dict[str, Any]]:
    """The groups with those of their parameters that are matrices, or with the others; none that is empty."""
    narrowed = [{**part, "params": [one for one in part["params"] if (one.ndim == 2) is wanted]} for part in parts]
    return [part for part in narrowed if part["params"]]


def step_schedule(
    epochs: int,
    *,
    decays: Annotated[int, Field(ge=0, le=1000)] = 2,
    factor: Annotated[Positive, Field(le=1)] = 0.1,
) -> Schedule:
    """factor^k after k/(decays + 1) of the epochs, rounded down: with 350 epochs and 2 decays after 116 and 233.

    Raises ValueError where factor^decays is below float32's numbers: nothing would be trained.
    """
    if factor**decays < 2.0**-126:
        raise ValueError(
            f"optimizer.schedule.factor: expected a number whose power {decays} is at least 1.2e-38, got {factor:g}. "
            "Raise it, or lower optimizer.schedule.decays."
        )
    return lambda epoch: factor ** sum(epoch > epochs * k // (decays + 1) for k in range(1, decays + 1))


def constant_schedule(epochs: int) -> Schedule:
    """1 throughout."""
    del epochs
    return lambda epoch: 1.0


def cosine_schedule(epochs: int) -> Schedule:
    """½ (1 + cos(π (epoch − 1)/epochs)): 1 in the first epoch, towards 0 in the last."""
    return lambda epoch: (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
