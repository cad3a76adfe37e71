"""Optimizers that evaluate the loss several times a step, L-BFGS and SAM, and what the later evaluations leave alone.

A step is of one batch however often its loss is taken. The first evaluation is the step's: it is logged, and moves
random generators. Every later one sees the same random numbers (dropout masks), and leaves generators as the first left
them. SAM's second evaluation, at weights that are given up again, leaves buffers alone, too. Those of L-BFGS move batch
norm's running statistics as in a loop of torch alone: of the first alone they would be behind the weights by a step of
twenty iterations, and evaluation would be of another network.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any, Literal

import torch
from pydantic import PlainValidator
from torch import Tensor, nn
from torch.optim import Optimizer

from ncexp.config import Component, Count, NonNegative, Positive
from ncexp.training.optimizers import Decays, groups


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its step has to be given a closure: the loss, with its gradients, as often as it is called."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def refuse_repeated(optimizer: Optimizer, choice: str, others: Mapping[str, Any]) -> None:
    """Raises ValueError for what L-BFGS, or another optimizer that evaluates a loss as often as it likes, cannot have.

    SAM takes two gradients of a step, whatever makes them. L-BFGS compares losses and gradients of several places:
    those of bfloat16 differ by more than its steps, clipped gradients belong to no loss, and batch norm's statistics
    would be of other examples in each part. others: key → the value that is refused unless it is None.
    """
    if not needs_closure(optimizer):
        return
    for key, value in others.items():
        if value is not None and not (isinstance(optimizer, SAM) and key != "regime"):
            raise ValueError(
                f"{key}: expected none but the default with optimizer={choice}, which evaluates the loss several times "
                f"a step, got {value}. Leave it out, or choose another optimizer."
            )


class Closure:
    """The loss of one step's batch and its gradients, for an optimizer that calls for them any number of times.

    evaluate: computes both, anew; its argument is whether this is the step's own evaluation, the first. keeps_buffers:
    whether later evaluations leave the network's buffers as the first left them.
    """

    def __init__(self, network: nn.Module, evaluate: Callable[[bool], Tensor], *, keeps_buffers: bool) -> None:
        self._network, self._evaluate, self._keeps_buffers = network, evaluate, keeps_buffers
        self._begun: list[Tensor] | None = None

    def __call__(self) -> Tensor:
        if self._begun is None:
            self._begun = _generators()
            return self._evaluate(True)
        after = _generators()
        with buffers_kept(self._network) if self._keeps_buffers else nullcontext():
            _set_generators(self._begun)
            loss = self._evaluate(False)
        _set_generators(after)
        return loss


def _generators() -> list[Tensor]:
    """The state of torch's random generators, those that a checkpoint holds."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]


def _set_generators(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """After it each buffer is as before, size included: some count passes, or what they saw, in eval mode as well."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                if not torch.equal(buffer, value):
                    buffer.resize_(value.shape).copy_(value)


# L-BFGS


def lbfgs(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Positive = 1.0,
    max_iter: Count = 20,
    history_size: Count = 10,
    line_search: Literal["strong_wolfe", "none"] = "strong_wolfe",
    weight_decay: NonNegative = 0.0,
    decay_of: Decays = None,
) -> Optimizer:
    """torch's L-BFGS of the loss with its decay, Σ d/2 ‖θ‖²: `LBFGS`."""
    search = None if line_search == "none" else line_search
    parts = groups(parameters, weight_decay, decay_of)
    return LBFGS(parts, lr=lr, max_iter=max_iter, history_size=history_size, line_search_fn=search)


class LBFGS(Optimizer):
    """torch.optim.LBFGS, whose objective is the closure's loss and, of each parameter θ with decay d, d/2 ‖θ‖².

    torch's own has no decay, and one group. Its line search compares objectives, so the decay joins value and gradient.
    options: torch's.
    """

    def __init__(self, parts: list[dict[str, Any]], *, lr: float, **options: Any) -> None:
        super().__init__(parts, {"lr": lr})
        members = [parameter for group in self.param_groups for parameter in group["params"]]
        self._within = torch.optim.LBFGS(members, lr=lr, **options)
        self._within.state = self.state

    def step(self, closure: Callable[[], Tensor]) -> Any:  # type: ignore[override]
        """Up to `max_iter` iterations on one batch; returns the objective that the first evaluation met."""
        self._within.param_groups[0]["lr"] = self.param_groups[0]["lr"]
        return self._within.step(lambda: self._with_decay(closure()))

    @torch.no_grad()
    def _with_decay(self, loss: Tensor) -> Tensor:
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved and (decay := group["weight_decay"]):
                squares = torch.stack([parameter.square().sum() for parameter in moved])
                loss = loss + decay / 2 * squares.sum()
                torch._foreach_add_([parameter.grad for parameter in moved], moved, alpha=decay)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; the optimizer within goes on from it."""
        super().load_state_dict(state_dict)
        self._within.state = self.state


# SAM


def _base(raw: Any) -> dict[str, Any]:
    """`optimizer.base` → its target and options, checked. Raises ConfigError as a choice of optimizer does."""
    if isinstance(raw, dict):
        raw = {"name": "base", **{key: value for key, value in raw.items() if key != "schedule"}}
    return Component.check("optimizer.base", raw).identity()


def sam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Positive,
    rho: Positive = 0.05,
    adaptive: bool = False,
    base: Annotated[dict[str, Any], PlainValidator(_base)],
) -> Optimizer:
    """Sharpness-aware minimization around another optimizer: `SAM`. base: a choice of optimizer, whose lr is `lr`."""
    if base.get("lr") != lr:
        raise ValueError(f"optimizer.base.lr: expected optimizer.lr, {lr:g}, got {base.get('lr')}. Set optimizer.lr.")
    made = Component.check("optimizer.base", {"name": "base", **base}).build_a(Optimizer, parameters=parameters)
    if needs_closure(made):
        raise ValueError(
            f"optimizer.base: expected an optimizer of one gradient a step, got {type(made).__name__}. Choose another."
        )
    return SAM(made, rho=rho, adaptive=adaptive)


class SAM(Optimizer):
    """The step of another optimizer by the gradient at θ + ε, ε = ρ g/‖g‖ (Foret et al. 2021), g the gradient at θ.

    ‖·‖ is over all parameters together. adaptive: ε = ρ θ² g/‖θ g‖, entry by entry, which does not depend on the scale
    of a parameter (ASAM, Kwon et al. 2021; without their η). Where g = 0, ε = 0. The other optimizer, `optimizer`, then
    stands at θ again: its decay, coupled or not, is that of θ, and is no part of g.
    """

    def __init__(self, optimizer: Optimizer, *, rho: float, adaptive: bool = False) -> None:
        self.optimizer, self.rho, self.adaptive = optimizer, rho, adaptive
        super().__init__(optimizer.param_groups, {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Two evaluations of the closure, at θ and at θ + ε; returns the loss at θ."""
        evaluate = torch.enable_grad()(closure)
        loss = evaluate()
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [parameter.clone() for parameter in moved]
        for parameter, shift in zip(moved, self._shifts(moved), strict=True):
            parameter.add_(shift)
        evaluate()
        for parameter, value in zip(moved, before, strict=True):
            parameter.copy_(value)  # not θ + ε − ε, which is rounded
        self.optimizer.step()
        return loss

    def _shifts(self, moved: list[nn.Parameter]) -> list[Tensor]:
        """ε of each parameter."""
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        sizes = [parameter.abs() if self.adaptive else torch.ones_like(parameter) for parameter in moved]
        scaled = [size * gradient for size, gradient in zip(sizes, gradients, strict=True)]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in scaled]))
        factor = torch.where(norm > 0, self.rho / norm, 0.0)
        return [size * one * factor for size, one in zip(sizes, scaled, strict=True)]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; the optimizer within goes on from it."""
        self.optimizer.load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Groups and state are those of the optimizer within, the same objects."""
        self.param_groups, self.state = self.optimizer.param_groups, self.optimizer.state
