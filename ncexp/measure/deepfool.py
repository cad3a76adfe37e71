"""How far an example lies from the nearest decision boundary: DeepFool (Moosavi-Dezfooli, Fawzi, Frossard 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: η of the paper: the step that crosses the boundary which the exact step only reaches.
OVERSHOOT = 0.02


def deepfool(
    network: nn.Module, inputs: Tensor, *, max_iterations: int = 50, num_candidates: int = 10
) -> tuple[Tensor, Tensor]:
    """The smallest perturbations r(x) that change what the network decides, all examples at once.

    Until the decision changes, x moves to the nearest boundary of the network linearised there: with f_k the logits,
    k₀ the first decision, w_k = ∇(f_k − f_k₀), the step is |f_l − f_k₀|/‖w_l‖² · w_l for the l that minimises
    |f_l − f_k₀|/‖w_l‖. For a linear network the first step is exact, to rounding. r(x) is without the overshoot.

    network: its output is (logits, features); run in eval mode and left in the mode it was in. inputs (n, *shape).
    max_iterations: steps after which an example is given up, `crossed` false. num_candidates: classes with the largest
    logits at x that may become l (the paper's ten); every step takes as many backward passes.

    Returns r(x), of the inputs' shape, and (n,) bool: whether x + (1 + η) r(x) changes the decision.

    Raises ValueError where inputs are empty or the logits are of fewer than two classes.
    """
    if len(inputs) == 0:
        raise ValueError("inputs: expected at least one example, got none. Give a batch of inputs.")
    mode = network.training
    network.eval()
    try:
        return _deepfool(network, inputs.detach(), max_iterations, num_candidates)
    finally:
        network.train(mode)


def robustness(network: nn.Module, inputs: Tensor) -> tuple[float, int]:
    """Ave_i ‖r(x_i)‖/‖x_i‖ with DeepFool's r (HPD22; over 100 test images there), and how many examples it leaves out.

    Those are the examples whose decision does not change within DeepFool's iterations; NaN where none changes, as with
    a network that decides the same for everything. inputs (n, *shape), as trained on.

    Raises ValueError where inputs are empty or one of them is zero.
    """
    lengths = inputs.flatten(1).double().norm(dim=1)
    if not bool((lengths > 0).all()):
        index = int((lengths == 0).nonzero()[0])
        raise ValueError(f"inputs: expected ‖x‖ > 0 to divide by, got 0 at example {index}. Leave that example out.")
    perturbations, crossed = deepfool(network, inputs)
    ratios = (perturbations.flatten(1).double().norm(dim=1) / lengths)[crossed]
    return ratios.mean().item(), int((~crossed).sum())


def _deepfool(network: nn.Module, inputs: Tensor, max_iterations: int, num_candidates: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits, _ = network(inputs)
    if logits.shape[1] < 2:
        raise ValueError(f"network: expected logits of at least two classes, got {logits.shape[1]}. Nothing to change.")
    candidates = logits.topk(min(num_candidates, logits.shape[1])).indices  # (n, K), the decision first
    total = torch.zeros_like(inputs)
    crossed = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    for _ in range(max_iterations):
        active = (~crossed).nonzero().squeeze(1)
        if len(active) == 0:
            break
        moved = inputs[active] + (1 + OVERSHOOT) * total[active]
        step, decision = _step(network, moved, candidates[active])
        changed = decision != candidates[active, 0]
        crossed[active[changed]] = True
        total[active[~changed]] += step[~changed]
    with torch.no_grad():
        crossed = network(inputs + (1 + OVERSHOOT) * total)[0].argmax(1) != candidates[:, 0]
    return total, crossed


def _step(network: nn.Module, inputs: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The step of every example to its nearest linearised boundary, and what is decided at the example itself."""
    inputs = inputs.detach().requires_grad_()
    logits, _ = network(inputs)
    gaps = logits.gather(1, candidates)
    gaps = gaps[:, 1:] - gaps[:, :1]  # f_k − f_k₀, (n, K − 1)
    nearest = torch.full_like(gaps[:, 0], torch.inf).detach()
    step = torch.zeros_like(inputs)
    for k in range(gaps.shape[1]):
        (slope,) = torch.autograd.grad(gaps[:, k].sum(), inputs, retain_graph=k + 1 < gaps.shape[1])
        norm = slope.flatten(1).norm(dim=1)
        distance = gaps[:, k].detach().abs() / norm  # infinite, or NaN, where the network is flat: never the nearest
        closer = distance < nearest
        scale = (distance / norm).view(-1, *(1,) * (inputs.ndim - 1))
        step = torch.where(closer.view_as(scale), scale * slope, step)
        nearest = torch.where(closer, distance, nearest)
    return step, logits.detach().argmax(1)
