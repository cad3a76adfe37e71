"""The λ of the MSE decomposition, derived from the optimizer and the loss that a run really uses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim import Optimizer

from ncexp.collapse import ridge_from_weight_decay
from ncexp.training.optimizers import DECOUPLED, MuonWithAdamW, SignDescent

#: Optimizers known to add their decay to the gradient, and of their subclasses those that leave their step as it is;
#: AdamW is one of Adam and in the list below. What is in neither gets no λ: a new optimizer may decay in any way, and a
#: wrong λ is no error that anybody sees.
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

    λ = 0, and why, for every optimizer whose step is not that of one in COUPLED: its decay does something else, or
    nobody knows what. So it is for a weight or bias that is not decayed: not held by the optimizer, or without a
    gradient. Of a mixture (`ncexp.training.optimizers`) λ is that of the coupled part, the only one in the objective. A
    wrapper is looked through (`innermost`). ASGD's `lambd` joins its coupled decay: θ gains −lr (g + (d + lambd) θ).

    Under weight_norm, w = g v/‖v‖, λ is that of g: Σ g² = ‖W‖²; the decay of v changes ‖v‖ alone, of which W is free.
    """
    optimizer = innermost(optimizer)
    rule, name = _rule(type(optimizer)), type(optimizer).__name__
    held = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    moving = any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
    groups, notes = _groups(classifier, lambda part, parameter: held.get(id(parameter)), moving)
    lambd = "lambd" if rule is torch.optim.ASGD else ""
    coupled = tuple(group.get("weight_decay", 0.0) + group.get(lambd, 0.0) for group in groups)
    beside = max(group.get(DECOUPLED, 0.0) for group in groups)
    switched = any(group.get("decoupled_weight_decay") for group in groups)
    if rule in DECOUPLING or switched or (beside > 0 and not any(coupled)):
        return _ridge((0.0, 0.0), half_mse_scale, f"the weight decay is decoupled from the gradient ({name})")
    if rule not in COUPLED:
        return _ridge((0.0, 0.0), half_mse_scale, f"{name} is not known to add its decay to the gradient")
    ridge = _ridge((float(coupled[0]), float(coupled[1])), half_mse_scale)
    notes += f"; a decoupled decay of {beside:g} acts beside it" if beside > 0 else ""
    return replace(ridge, convention=ridge.convention + notes)


def innermost(optimizer: Optimizer) -> Optimizer:
    """The optimizer within wrappers that have it as `.optimizer`: Lightning's, Accelerate's and their kin."""
    while isinstance(within := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = within
    return optimizer


def _rule(kind: type[Optimizer]) -> type[Optimizer]:
    """Whose step it makes: that of the class, or of the known one from which it is derived without a step of its own.

    torch wraps `step` when a first optimizer is made, so what is wrapped is compared.
    """
    known = (one for one in kind.__mro__ if issubclass(one, Optimizer) and one in COUPLED | DECOUPLING)
    return next((one for one in known if inspect.unwrap(one.step) is inspect.unwrap(kind.step)), kind)


def _behind(classifier: nn.Linear, part: str) -> tuple[nn.Parameter | None, str]:
    """The parameter whose decay is a ridge on the weight or bias; or None, and why there is none, "" without a bias."""
    made_by = getattr(classifier, "parametrizations", {})
    if part in made_by:
        kinds = [type(one).__name__ for one in made_by[part]]
        if kinds == ["_WeightNorm"]:
            return made_by[part].original0, ""
        return None, f"is made by {', '.join(kinds)}, whose parameters' decay is no ridge on it"
    parameters = dict(classifier.named_parameters(recurse=False))
    hooks = classifier._forward_pre_hooks.values()
    if any(isinstance(one, WeightNorm) and one.name == part for one in hooks):
        return parameters[f"{part}_g"], ""
    if part in parameters:
        return parameters[part], ""
    if getattr(classifier, part) is None:
        return None, ""
    if part in dict(classifier.named_buffers(recurse=False)):
        return None, "is not trained"
    return None, "is computed from other parameters, whose decay is no ridge on it"


def _groups(
    classifier: nn.Linear, group_of: Callable[[str, nn.Parameter], dict[str, Any] | None], moving: bool
) -> tuple[list[dict[str, Any]], str]:
    """The groups in which weight and bias are decayed, empty where they are not, and why. torch decays no parameter
    that has no gradient.

    group_of: (part, parameter) → its group, None for one that the optimizer does not hold; moving: whether any
    parameter has a gradient, as after a step, before they are set to None.
    """
    groups, notes = [], ""
    for part in ("weight", "bias"):
        parameter, reason = _behind(classifier, part)
        group = None if parameter is None else group_of(part, parameter)
        if parameter is not None:
            if group is None:
                reason = "is not held by the optimizer"
            elif parameter.grad is None and not parameter.requires_grad:
                reason = "is not trained"
            elif parameter.grad is None and moving:
                reason = "is given no gradient, as others are"
        groups.append({} if group is None or reason else group)
        notes += f"; the last layer's {part} {reason}" if reason else ""
    return groups, notes


def ridge_for(
    classifier: nn.Linear, weight_decay: tuple[float, float], decoupled: bool, half_mse_scale: float | None
) -> Ridge:
    """λ = wd/s, wd the decay that is added to the gradient of the last layer's weight and bias, s·½Ave‖·‖² the loss.

    λ = 0, said in `convention`, where the loss is no multiple of the MSE or the decay is decoupled from the gradient:
    then the trained objective is no ridge problem in the last layer. So it is, whatever was stated, of a layer that is
    not trained, or whose weight is made of other parameters (weight_norm excepted, see `ridge_of`).
    """
    stated = {"weight": weight_decay[0], "bias": weight_decay[1]}
    groups, notes = _groups(classifier, lambda part, parameter: {"weight_decay": stated[part]}, moving=False)
    decays = groups[0].get("weight_decay", 0.0), groups[1].get("weight_decay", 0.0)
    ridge = _ridge(decays, half_mse_scale, "the weight decay is decoupled from the gradient" if decoupled else "")
    return ridge if decoupled or half_mse_scale is None else replace(ridge, convention=ridge.convention + notes)


def _ridge(weight_decay: tuple[float, float], half_mse_scale: float | None, outside: str = "") -> Ridge:
    """outside: why the decay is no part of the objective; "" where it is."""
    if half_mse_scale is None:
        return Ridge(0.0, 0.0, "λ = 0: the loss is not a multiple of the MSE")
    if outside:
        return Ridge(0.0, 0.0, f"λ = 0: {outside}")
    weight, bias = (ridge_from_weight_decay(decay, half_mse_scale) for decay in weight_decay)
    stated = f"{weight:g}" if weight == bias else f"{weight:g}, of the bias {bias:g}"
    scale = f"as the loss is s · ½ Ave ‖logits − one-hot‖² with s = {half_mse_scale:g}"
    return Ridge(weight, bias, f"λ = weight decay / s = {stated}, {scale}")
