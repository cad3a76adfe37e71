"""Update rules that torch has not, or has for matrices only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


class SignDescent(Optimizer):
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
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        direction = parameter.grad.add(parameter, alpha=group["weight_decay"])  # type: ignore[union-attr]
        if group["momentum"]:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            direction = state["momentum_buffer"].lerp_(direction, 1 - group["momentum"])
        parameter.add_(direction.sign(), alpha=-group["lr"])


class MuonWithAdamW(Optimizer):
    """torch.optim.Muon (Jordan et al. 2024) for the groups of matrices, AdamW for the others: one optimizer.

    Muon takes parameters of two dimensions only: weights of linear layers, the classifier's among them. Biases, gains
    of normalisations and kernels of convolutions are AdamW's. Muon's steps are scaled to the size of AdamW's
    (`match_rms_adamw`), so both have one lr. The decay of both is decoupled from the gradient.

    Raises ValueError where this torch has no Muon (it came with 2.9).
    """

    def __init__(
        self,
        matrices: list[dict[str, Any]],
        others: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"optimizer=muon: expected torch 2.9 or newer, got {torch.__version__}. Upgrade torch.")
        self._parts: list[Optimizer] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, fused=True))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
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
