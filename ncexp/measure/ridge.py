"""The λ of the MSE decomposition, derived from the optimizer and the loss that a run really uses."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim import Optimizer

from ncexp.collapse import ridge_from_weight_decay
from ncexp.config import ConfigError
from ncexp.training.closures import LBFGS, SAM
from ncexp.training.optimizers import DECOUPLED, MuonWithAdamW, SignDescent

#: Optimizers known to add their decay to the gradient, and of their subclasses those that leave their step as it is;
#: AdamW is one of Adam and in the list below. What is in neither gets no λ: a new optimizer may decay in any way, and a
#: wrong λ is no error that anybody sees.
COUPLED = frozenset(
    {
        *(torch.optim.SGD, torch.optim.ASGD, torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam),
        *(torch.optim.Adamax, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.RMSprop, SignDescent),
        LBFGS,
    }
)
#: Without a decay of any kind.
UNDECAYED = frozenset({torch.optim.LBFGS, torch.optim.Rprop, torch.optim.SparseAdam})
#: Known to shrink the parameters beside the gradient; Muon and Adafactor are younger than the oldest torch we run on.
DECOUPLING = frozenset(
    {torch.optim.AdamW, MuonWithAdamW, *(getattr(torch.optim, name, None) for name in ("Muon", "Adafactor"))}
)

#: What a group of an optimizer may say of its decay: torch's names, and that of `ncexp.training.optimizers`.
DECAYS = ("weight_decay", "decoupled_weight_decay", DECOUPLED, "lambd")


@dataclass(frozen=True)
class Ridge:
    """λ for the weight and for the bias of the last layer, and in words how it was derived."""

    weight: float
    bias: float
    convention: str


def ridge_facts(ridge: Ridge) -> dict[str, Any]:
    """As facts.json has it."""
    return {f"ridge_{name}": value for name, value in asdict(ridge).items()}


def ridge_of(optimizer: Optimizer, classifier: nn.Linear, half_mse_scale: float | None, no_ridge: str = "") -> Ridge:
    """The λ that follows from the decay that `optimizer` gives the last layer; see `ridge_for`.

    λ = 0, and why, for every optimizer whose step is not that of one in COUPLED: its decay does something else, or
    nobody knows what. So it is for a weight or bias that is not decayed: not held by the optimizer, or without a
    gradient. Of a mixture (`ncexp.training.optimizers`) λ is that of the coupled part, the only one in the objective. A
    wrapper is looked through (`innermost`). ASGD's `lambd` joins its coupled decay: θ gains −lr (g + (d + lambd) θ).

    L-BFGS of ours has the decay in its objective, value and gradient. SAM descends max L(θ + ε) plus the decay of the
    optimizer within, at θ: λ is that of this decay, and the last layer does not come to rest at W_LS.

    no_ridge: why the loss itself has no λ, where it is no multiple of the MSE and says more than that (`no_ridge` of a
    loss in `ncexp.training`).

    Under weight_norm, w = g v/‖v‖, λ is that of g: Σ g² = ‖W‖²; the decay of v changes ‖v‖ alone, of which W is free.
    """
    if half_mse_scale is None and no_ridge:
        return Ridge(0.0, 0.0, f"λ = 0: {no_ridge}")
    raised = _sharpness(optimizer)
    optimizer = innermost(optimizer)
    rule, name = _rule(type(optimizer)), type(optimizer).__name__
    held = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    moving = any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
    parts, notes = _decayed_parts(classifier, moving)
    for part, parameter in parts.items():
        notes += "" if id(parameter) in held else f"; the last layer's {part} is not held by the optimizer"
    groups = {part: held.get(id(parameter), {}) for part, parameter in parts.items()}
    lambd = "lambd" if rule is torch.optim.ASGD else ""
    coupled = {part: float(one.get("weight_decay", 0.0) + one.get(lambd, 0.0)) for part, one in groups.items()}
    beside = max((group.get(DECOUPLED, 0.0) for group in groups.values()), default=0.0)
    switched = any(group.get("decoupled_weight_decay") for group in groups.values())
    if rule in DECOUPLING or switched or (beside > 0 and not any(coupled.values())):
        return _ridge({}, half_mse_scale, f"the weight decay is decoupled from the gradient ({name})")
    if rule in UNDECAYED:
        return _ridge({}, half_mse_scale, f"{name} has no weight decay")
    if rule not in COUPLED:
        return _ridge({}, half_mse_scale, f"{name} is not known to add its decay to the gradient")
    notes += f"; a decoupled decay of {beside:g} acts beside it" if beside > 0 else ""
    notes += raised
    return _ridge(coupled, half_mse_scale, notes=notes)


def decays_of(optimizer: Optimizer, network: nn.Module) -> dict[str, float] | None:
    """Name of each parameter that is held → the decay that joins its gradient; None where decay does anything else."""
    optimizer = innermost(optimizer)
    groups = [(group, {id(one) for one in group["params"]}) for group in optimizer.param_groups]
    beside = any(group.get(DECOUPLED) or group.get("decoupled_weight_decay") for group, _ in groups)
    if beside or _rule(type(optimizer)) not in COUPLED - {torch.optim.ASGD}:
        return None
    return {
        name: float(group.get("weight_decay", 0.0))
        for name, parameter in network.named_parameters()
        for group, members in groups
        if id(parameter) in members
    }


def ridge_for(
    classifier: nn.Linear, weight_decay: tuple[float, float], decoupled: bool, half_mse_scale: float | None
) -> Ridge:
    """λ = wd/s, wd the decay that is added to the gradient of the last layer's weight and bias, s·½Ave‖·‖² the loss.

    λ = 0, said in `convention`, where the loss is no multiple of the MSE or the decay is decoupled from the gradient:
    then the trained objective is no ridge problem in the last layer. So it is, whatever was stated, of a layer that is
    not trained, or whose weight is made of other parameters (weight_norm excepted, see `ridge_of`).
    """
    if decoupled:
        return _ridge({}, half_mse_scale, "the weight decay is decoupled from the gradient")
    parts, notes = _decayed_parts(classifier, moving=False)
    stated = dict(zip(("weight", "bias"), weight_decay, strict=True))
    return _ridge({part: stated[part] for part in parts}, half_mse_scale, notes=notes)


def innermost(optimizer: Optimizer) -> Optimizer:
    """The optimizer within wrappers that have it as `.optimizer`: Lightning's, Accelerate's and their kin."""
    while isinstance(within := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = within
    return optimizer


def _sharpness(optimizer: Any) -> str:
    """What SAM, at any depth of wrappers, does to where the last layer comes to rest; "" without it."""
    while optimizer is not None and not isinstance(optimizer, SAM):
        optimizer = getattr(optimizer, "optimizer", None)
    if optimizer is None:
        return ""
    return f"; the loss that is descended is SAM's, at θ + ε with ρ = {optimizer.rho:g}, the decay that of θ"


def _ridge(decays: dict[str, float], half_mse_scale: float | None, outside: str = "", notes: str = "") -> Ridge:
    """decays: of "weight" and "bias", where they have one; outside: why it is no part of the objective; "" where it is;
    notes: what else is to be said of it.
    """
    if half_mse_scale is None or outside:
        return Ridge(0.0, 0.0, f"λ = 0: {outside if half_mse_scale else 'the loss is not a multiple of the MSE'}")
    weight, bias = (ridge_from_weight_decay(decays.get(part, 0.0), half_mse_scale) for part in ("weight", "bias"))
    stated = f"{weight:g}" if weight == bias else f"{weight:g}, of the bias {bias:g}"
    scale = f"as the loss is s · ½ Ave ‖logits − one-hot‖² with s = {half_mse_scale:g}"
    return Ridge(weight, bias, f"λ = weight decay / s = {stated}, {scale}{notes}")


def _rule(kind: type[Optimizer]) -> type[Optimizer]:
    """Whose step it makes: that of the class, or of the known one from which it is derived without a step of its own.

    torch wraps `step` when a first optimizer is made, so what is wrapped is compared.
    """
    known = (one for one in kind.__mro__ if issubclass(one, Optimizer) and one in COUPLED | DECOUPLING | UNDECAYED)
    return next((one for one in known if inspect.unwrap(one.step) is inspect.unwrap(kind.step)), kind)


def _decayed_parts(classifier: nn.Linear, moving: bool) -> tuple[dict[str, nn.Parameter], str]:
    """ "weight" and "bias" → the parameter whose decay is a ridge on it; and in words why one has none.

    torch decays no parameter that has no gradient. moving: whether any has one, as after a step, before they are set to
    None.
    """
    parts, notes = {}, ""
    for part in ("weight", "bias"):
        found = _behind(classifier, part)
        if isinstance(found, nn.Parameter) and found.grad is None and (moving or not found.requires_grad):
            found = "is given no gradient, as others are" if found.requires_grad else "is not trained"
        if isinstance(found, nn.Parameter):
            parts[part] = found
        elif found:
            notes += f"; the last layer's {part} {found}"
    return parts, notes


def _behind(classifier: nn.Linear, part: str) -> nn.Parameter | str:
    """The parameter whose decay is a ridge on the weight or bias; or why there is none, "" without a bias."""
    made_by = getattr(classifier, "parametrizations", {})
    parameters = dict(classifier.named_parameters(recurse=False))
    if part in made_by:
        kinds = [type(one).__name__ for one in made_by[part]]
        if kinds != ["_WeightNorm"]:
            return f"is made by {', '.join(kinds)}, whose parameters' decay is no ridge on it"
        gain: nn.Parameter = made_by[part].original0
        return gain
    if any(isinstance(one, WeightNorm) and one.name == part for one in classifier._forward_pre_hooks.values()):
        return parameters[f"{part}_g"]
    if part in parameters:
        return parameters[part]
    if getattr(classifier, part) is None:
        return ""
    trained = part not in dict(classifier.named_buffers(recurse=False))
    return "is computed from other parameters, whose decay is no ridge on it" if trained else "is not trained"


def describe_optimizer(
    optimizer: Optimizer | None, weight_decay: tuple[float, float], decoupled: bool, lr: float | None
) -> dict[str, Any]:
    """The entry of config.yaml: the optimizer's class, rate and decay as it stands, or the numbers stated instead.

    Of a scheduled rate it is the one that the schedule began with, as far as torch notes it (`initial_lr`). Where the
    groups of an optimizer differ, a list has the value of each.
    Raises ConfigError where a decay is stated beside the optimizer, and for what is none.
    """
    described: dict[str, Any] = {"name": "own", "_target_": "ncexp.Recorder", "lr": None if lr is None else float(lr)}
    if optimizer is None:
        return described | {"weight_decay": _shared(weight_decay), "decoupled_weight_decay": decoupled}
    if not getattr(innermost(optimizer), "param_groups", None):
        raise ConfigError(
            f"optimizer: expected a torch.optim.Optimizer with parameters, got {type(optimizer).__name__}. Pass that "
            "of the loop, or state weight_decay instead."
        )
    if decoupled or weight_decay != (0.0, 0.0):
        raise ConfigError(
            f"weight_decay: expected none beside optimizer, whose own is read, got {weight_decay}, decoupled: "
            f"{decoupled}. Leave one of them out."
        )
    kind, groups = type(innermost(optimizer)), innermost(optimizer).param_groups
    found = [group.get("initial_lr", group.get("lr")) for group in groups]
    rates = [None if rate is None else float(rate) for rate in found]
    described |= {"lr": rates[0]} if lr is None and len({*rates}) == 1 else {}
    described |= {} if {*rates} == {described["lr"]} else {"rates": rates}
    decays = {name: [float(group.get(name) or 0) for group in groups] for name in DECAYS}
    decays = {name: values for name, values in decays.items() if any(values) or name == "weight_decay"}
    return {**described, "class": f"{kind.__module__}.{kind.__qualname__}"} | {
        name: _shared(values) for name, values in decays.items()
    }


def _shared(values: Sequence[float]) -> float | list[float]:
    """The value that all have, or those of each."""
    numbers = [float(value) for value in values]
    return numbers[0] if len({*numbers}) == 1 else numbers
