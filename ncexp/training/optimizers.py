"""conf/optimizer: update rules with the decay of every parameter, and the learning rate's schedule.

weight_decay: d of every parameter; decay_of: pattern of names → another d (``{*.bias: 0.0}``), the first that matches
counts; decoupled: the share s of d by which parameters shrink beside the gradient.

The decay d of a parameter θ is the sum of a coupled part c = (1 − s) d, which joins the gradient (g + c θ, whatever the
update rule then makes of it), and a decoupled part e = s d, by which θ shrinks before the update: θ ← (1 − lr · e) θ.
No update rule rescales the second (Loshchilov & Hutter 2019). torch's SGD and Adam have s = 0, AdamW has s = 1.

A schedule is a function of the epoch (1-based) that returns the factor on the learning rate; it has no state, so a
resumed run needs none restored.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from ncexp.config import ADDED, Fraction, NonNegative, Positive

Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]
Share = Annotated[float, Field(ge=0, le=1), ADDED]
Decays = Annotated[dict[str, NonNegative] | None, ADDED]
Schedule = Callable[[float], float]
#: Of a group of parameters: e, the decoupled part. Not torch's `decoupled_weight_decay`, a switch of some optimizers.
DECOUPLED = "decoupled_decay"


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
    return _shrinking(SGD(parts, lr=lr, momentum=momentum, fused=True))


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
    return _shrinking(SignDescent(groups(parameters, weight_decay, decay_of, decoupled), lr=lr, momentum=momentum))


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
    return _shrinking(Adam(parts, lr=lr, betas=(betas[0], betas[1]), fused=True))


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
    return AdamW(parts, lr=lr, betas=(betas[0], betas[1]), fused=True)


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
    return MuonWithAdamW(parts, lr=lr, momentum=momentum, betas=(betas[0], betas[1]))


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


def linear_schedule(epochs: int, *, last: Fraction = 0.0) -> Schedule:
    """1 − (1 − last) t, t = (epoch − 1)/epochs the part of the training that is done before a step."""
    return _per_step(lambda epoch: 1 - (1 - last) * (epoch - 1) / epochs)


def warmup_cosine_schedule(
    epochs: int, *, warmup: Fraction = 0.05, begin: Fraction = 0.01, last: Fraction = 0.0
) -> Schedule:
    """With t = (epoch − 1)/epochs before a step: begin + (1 − begin) t/warmup while t < warmup, then
    last + (1 − last) ½ (1 + cos(π (t − warmup)/(1 − warmup))).
    """

    def factor(epoch: float) -> float:
        done = (epoch - 1) / epochs
        if done < warmup:
            return begin + (1 - begin) * done / warmup
        return last + (1 - last) * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2

    return _per_step(factor)


def _per_step(schedule: Schedule) -> Schedule:
    """The same schedule, which `Training` calls before every step, not every epoch."""
    schedule.per_step = True  # type: ignore[attr-defined]
    return schedule


# Decay


class Parameters(list[nn.Parameter]):
    """The parameters of a network, and their `names`, one each, as in network.named_parameters(); without `but`."""

    def __init__(self, network: nn.Module, but: Iterable[nn.Parameter] = ()) -> None:
        left_out = {id(parameter) for parameter in but}
        named = [(name, one) for name, one in network.named_parameters() if id(one) not in left_out]
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
    found: dict[float, list[nn.Parameter]] = {}
    for parameter, of_this in zip(parameters, _decays(parameters, decay, decay_of or {}), strict=True):
        found.setdefault(of_this, []).append(parameter)
    return [
        {"params": members, "weight_decay": (1 - decoupled) * d, **({DECOUPLED: decoupled * d} if decoupled else {})}
        for d, members in found.items()
    ]


def _shrinking(optimizer: Optimizer) -> Optimizer:
    """The same optimizer, which applies the decoupled parts of its groups before each step."""
    if any(DECOUPLED in group for group in optimizer.param_groups):
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
            "ncexp.training.optimizers.Parameters(network)."
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


# Update rules: torch's, those that it has not, or has for matrices only


class Eager(Optimizer):
    """torch's Optimizer, whose methods do not first import torch's compiler: two seconds, and 75 MB.

    torch wraps them, and each `step`, in functions that keep its compiler from looking into them. Nobody compiles an
    optimizer of ours; what is called is the function that torch wrapped, the same arithmetic. compile=true, of a
    network, imports the compiler by itself.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class SGD(Eager, torch.optim.SGD):
    """torch's."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class Adam(Eager, torch.optim.Adam):
    """torch's."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(Eager, torch.optim.AdamW):
    """torch's."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class SignDescent(Eager):
    """θ ← θ − lr · sign(m) with m ← β m + (1 − β)(g + c θ), entry by entry (Bernstein et al. 2018).

    signSGD at β = 0, else Signum; the idealised Adam of Zhao et al. 2026, whose step has one size in every entry.
    c: `weight_decay`, coupled, as SGD's; β: `momentum`; m begins at 0; sign(0) = 0.
    """

    def __init__(
        self, parameters: Iterable[Any], *, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        moved = ((p, group) for group in self.param_groups for p in group["params"] if p.grad is not None)
        for parameter, group in moved:
            direction = parameter.grad.add(parameter, alpha=group["weight_decay"])
            if group["momentum"]:
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                direction = state["momentum_buffer"].lerp_(direction, 1 - group["momentum"])
            parameter.add_(direction.sign(), alpha=-group["lr"])
        return loss


class MuonWithAdamW(Eager):
    """torch.optim.Muon (Jordan et al. 2024) for the groups of matrices, AdamW for the others: one optimizer.

    Muon takes parameters of two dimensions only: weights of linear layers, the classifier's among them. Biases, gains
    of normalisations and kernels of convolutions are AdamW's. Muon's steps are scaled to the size of AdamW's
    (`match_rms_adamw`), so both have one lr. The decay of both is decoupled from the gradient.

    Raises ValueError where this torch has no Muon (it came with 2.9).
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, momentum: float, betas: tuple[float, float]) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"optimizer=muon: expected torch 2.9 or newer, got {torch.__version__}. Upgrade torch.")

        def of(is_matrix: bool) -> list[dict[str, Any]]:
            chosen = ([p for p in group["params"] if (p.ndim == 2) is is_matrix] for group in groups)
            return [{**group, "params": some} for group, some in zip(groups, chosen, strict=True) if some]

        self._parts: list[Optimizer] = []
        if matrices := of(is_matrix=True):
            self._parts.append(torch.optim.Muon(matrices, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw"))
        if others := of(is_matrix=False):
            self._parts.append(AdamW(others, lr=lr, betas=betas, fused=True))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of each."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; the two parts go on from it."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """The parts hold the groups and the state of the whole, the same objects."""
        begin = 0
        for part in self._parts:
            end = begin + len(part.param_groups)
            part.param_groups, part.state, begin = self.param_groups[begin:end], self.state, end
