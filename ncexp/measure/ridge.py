"""The λ of the MSE decomposition, derived from the optimizer and the loss that a run really uses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ncexp.collapse import ridge_from_weight_decay
from ncexp.training.decay import DECOUPLED
from ncexp.training.update_rules import MuonWithAdamW, SignDescent

#: Optimizers known to add their decay to the gradient, themselves and not their subclasses: AdamW is one of Adam. What
#: is in neither list gets no λ: a new optimizer may decay in any way, and a wrong λ is no error that anybody sees.
COUPLED = frozenset(
    {
        *(torch.optim.SGD, torch.optim.ASGD, torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam),
        *(torch.optim.Adamax, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.RMSprop, SignDescent),
    }
)
#: Known to shrink the parameters beside the gradient; Muon and Adafactor are younger than the oldest torch we run on.
DECOUPLING = frozenset(
    {torch.optim.AdamW, MuonWithAdamW, *(getattr(torch.optim, name, None) for name in ("Muon", "Adafactor"))}
)


@dataclass(frozen=True)
class Ridge:
    """λ for the weight and for the bias of the last layer, and in words how it was derived."""

    weight: float
    bias: float
    convention: str


def ridge_facts(ridge: Ridge) -> dict[str, Any]:
    """As facts.json has it."""
    return {f"ridge_{name}": value for name, value in asdict(ridge).items()}


def ridge_of(optimizer: Optimizer, classifier: nn.Linear, half_mse_scale: float | None) -> Ridge:
    """The λ that follows from the decay that `optimizer` gives the last layer; see `ridge_for`.

    λ = 0, and why, for every optimizer that is not in COUPLED: its decay does something else, or nobody knows what. A
    parameter that the optimizer does not hold is not decayed. Of a mixture (`ncexp.training.decay`) λ is that of the
    coupled part, the only one in the objective.
    """
    name = type(optimizer).__name__
    held = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    groups = [held.get(id(parameter), {}) for parameter in (classifier.weight, classifier.bias)]
    coupled = groups[0].get("weight_decay", 0.0), groups[1].get("weight_decay", 0.0)
    beside = max(group.get(DECOUPLED, 0.0) for group in groups)
    switched = any(group.get("decoupled_weight_decay") for group in groups)
    if type(optimizer) in DECOUPLING or switched or (beside > 0 and coupled == (0, 0)):
        return _ridge(coupled, half_mse_scale, f"the weight decay is decoupled from the gradient ({name})")
    if type(optimizer) not in COUPLED:
        return _ridge(coupled, half_mse_scale, f"{name} is not known to add its decay to the gradient")
    ridge = _ridge(coupled, half_mse_scale)
    note = f"; a decoupled decay of {beside:g} acts beside it" if beside > 0 else ""
    return replace(ridge, convention=ridge.convention + note)


def ridge_for(weight_decay: tuple[float, float], decoupled: bool, half_mse_scale: float | None) -> Ridge:
    """λ = wd/s, wd the decay that is added to the gradient of the last layer's weight and bias, s·½Ave‖·‖² the loss.

    λ = 0, said in `convention`, where the loss is no multiple of the MSE or the decay is decoupled from the gradient:
    then the trained objective is no ridge problem in the last layer.
    """
    return _ridge(weight_decay, half_mse_scale, "the weight decay is decoupled from the gradient" if decoupled else "")


def _ridge(weight_decay: tuple[float, float], half_mse_scale: float | None, outside: str = "") -> Ridge:
    """outside: why the decay is no part of the objective; "" where it is."""
    if half_mse_scale is None:
        return Ridge(0.0, 0.0, "λ = 0: the loss is not a multiple of the MSE")
    if outside:
        return Ridge(0.0, 0.0, f"λ = 0: {outside}")
    weight, bias = (ridge_from_weight_decay(decay, half_mse_scale) for decay in weight_decay)
    return Ridge(weight, bias, f"λ = weight decay / s = {weight:g} with the loss s·½Ave‖·‖², s = {half_mse_scale:g}")
