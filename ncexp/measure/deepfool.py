"""How far an example lies from the nearest decision boundary: DeepFool (Moosavi-Dezfooli, Fawzi, Frossard 2016)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

#: η of the paper: the step that crosses the boundary which the exact step only reaches.
OVERSHOOT = 0.02
#: Gradients, of one example and class each, that are computed at once. Examples are taken in blocks of so many that all
#: their classes fit, and where one has more classes than that, these, too.
MOST_GRADIENTS = 256


def deepfool(
    network: nn.Module, inputs: Tensor, *, max_iterations: int = 50, num_candidates: int = 10
) -> tuple[Tensor, Tensor]:
    """The smallest perturbations r(x) that change what the network decides, all examples at once.

    Until the decision changes, x moves to the nearest boundary of the network linearised there: with f_k the logits,
    k₀ the first decision, w_k = ∇(f_k − f_k₀), the step is |f_l − f_k₀|/‖w_l‖² · w_l for the l that minimises
    |f_l − f_k₀|/‖w_l‖. For a linear network the first step is exact, to rounding. r(x) is without the overshoot.

    network: its output is (logits, features); run in eval mode and left in the mode it was in. inputs (n, *shape).
    max_iterations: steps after which an example is given up, `crossed` false. num_candidates: classes with the largest
    logits at x that may become l (the paper's ten); a step takes a gradient of each but the first.

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
    left = (logits.argmax(1) == candidates[:, 0]).nonzero().squeeze(1)  # of equal logits the two may differ
    block = max(1, MOST_GRADIENTS // (candidates.shape[1] - 1))
    for iteration in range(max_iterations):
        if iteration > 0:  # a forward pass, so that none of the gradients is of an example that is through
            with torch.no_grad():
                decision = network(inputs[left] + (1 + OVERSHOOT) * total[left])[0].argmax(1)
            left = left[decision == candidates[left, 0]]
        if len(left) == 0:
            break
        for some in left.split(block):
            total[some] += _step(network, inputs[some] + (1 + OVERSHOOT) * total[some], candidates[some])
    with torch.no_grad():
        crossed = network(inputs + (1 + OVERSHOOT) * total)[0].argmax(1) != candidates[:, 0]
    return total, crossed


def _step(network: nn.Module, inputs: Tensor, candidates: Tensor) -> Tensor:
    """The step of every example to its nearest linearised boundary."""
    inputs = inputs.detach().requires_grad_()
    logits, _ = network(inputs)
    gaps = logits.gather(1, candidates)
    gaps = gaps[:, 1:] - gaps[:, :1]  # f_k − f_k₀, (n, K − 1)
    nearest = torch.full_like(gaps[:, 0], torch.inf).detach()
    step = torch.zeros_like(inputs)
    for gap, slope in zip(gaps.detach().unbind(1), _slopes(gaps, inputs), strict=True):
        norm = slope.flatten(1).norm(dim=1)
        distance = gap.abs() / norm  # infinite, or NaN, where the network is flat: never the nearest
        closer = distance < nearest
        scale = (distance / norm).view(-1, *(1,) * (inputs.ndim - 1))
        step = torch.where(closer.view_as(scale), scale * slope, step)
        nearest = torch.where(closer, distance, nearest)
    return step


def _slopes(gaps: Tensor, inputs: Tensor) -> Iterator[Tensor]:
    """∇(f_k − f_k₀) at every example, class by class: MOST_GRADIENTS of them in one pass."""
    num_examples, num_classes = gaps.shape
    ones = torch.eye(num_classes, dtype=gaps.dtype, device=gaps.device)
    for some in ones.split(max(1, MOST_GRADIENTS // num_examples)):
        sought = some.unsqueeze(1).expand(-1, num_examples, -1)
        try:
            (slopes,) = torch.autograd.grad(gaps, inputs, sought, retain_graph=True, is_grads_batched=True)
        except RuntimeError:  # an operator of somebody's own that takes one gradient at a time
            for one in sought:
                yield torch.autograd.grad(gaps, inputs, one, retain_graph=True)[0]
        else:
            yield from slopes
