"""Weight decay: of which parameter how much, and how much of it through the gradient.

The decay d of a parameter θ is the sum of a coupled part c, which joins the gradient (g + c θ, whatever the update rule
then makes of it), and a decoupled part e, by which θ shrinks before the update: θ ← (1 − lr · e) θ, so that no rule
rescales it (Loshchilov & Hutter 2019). c = (1 − s) d and e = s d for one share s: torch's SGD and Adam have s = 0,
AdamW has s = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

#: Of a group of parameters: e, the decoupled part. Not torch's `decoupled_weight_decay`, a switch of some optimizers.
DECOUPLED = "decoupled_decay"


class Parameters(list[nn.Parameter]):
    """The parameters of a network, and their `names`, one each, as in network.named_parameters()."""

    def __init__(self, network: nn.Module) -> None:
        named = list(network.named_parameters())
        super().__init__(parameter for _, parameter in named)
        self.names = [name for name, _ in named]


def groups(
    parameters: Iterable[nn.Parameter], decay: float, decay_of: Mapping[str, float] | None, decoupled: float = 0.0
) -> list[dict[str, Any]]:
    """The groups of an optimizer: one for each decay, in the order in which the parameters have them.

    decay: d of every parameter whose name no pattern of `decay_of` matches; decay_of: pattern (* and ?) → d, the first
    that matches counts; decoupled: s, the share of e in d.
    Raises ValueError where a pattern matches no parameter, or where names are needed and there are none.
    """
    parameters = parameters if isinstance(parameters, Parameters) else list(parameters)
    decays = _decays(parameters, decay, decay_of or {})
    found: dict[float, list[nn.Parameter]] = {}
    for parameter, of_this in zip(parameters, decays, strict=True):
        found.setdefault(of_this, []).append(parameter)
    return [
        {"params": members, "weight_decay": (1 - decoupled) * d, **({DECOUPLED: decoupled * d} if decoupled else {})}
        for d, members in found.items()
    ]


def shrink_before_steps(optimizer: Optimizer) -> Optimizer:
    """The same optimizer, which from now on applies the decoupled parts of its groups before each step."""
    optimizer.register_step_pre_hook(_shrink)
    return optimizer


def _shrink(optimizer: Optimizer, args: Any, options: Any) -> None:
    del args, options
    with torch.no_grad():
        for group in optimizer.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved and group.get(DECOUPLED):
                torch._foreach_mul_(moved, 1 - group["lr"] * group[DECOUPLED])


def _decays(parameters: Iterable[nn.Parameter], decay: float, decay_of: Mapping[str, float]) -> list[float]:
    if not decay_of:
        return [decay for _ in parameters]
    if not isinstance(parameters, Parameters):
        raise ValueError(
            f"optimizer.decay_of: expected parameters with names, got {type(parameters).__name__}. Pass "
            "ncexp.training.decay.Parameters(network)."
        )
    for pattern in decay_of:
        if not any(fnmatchcase(name, pattern) for name in parameters.names):
            near = get_close_matches(pattern, parameters.names, n=1, cutoff=0.0)
            raise ValueError(
                f"optimizer.decay_of: expected patterns that match a parameter's name, got {pattern}. The nearest "
                f"name: {near[0]}."
            )
    return [
        next((d for pattern, d in decay_of.items() if fnmatchcase(name, pattern)), decay) for name in parameters.names
    ]
