"""The λ of the MSE decomposition, derived from the optimizer and the loss that a run really uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from ncexp.collapse import ridge_from_weight_decay


@dataclass(frozen=True)
class Ridge:
    """λ for the weight and for the bias of the last layer, and in words how it was derived."""

    weight: float
    bias: float
    convention: str


def ridge_of(optimizer: Optimizer, classifier: nn.Linear, half_mse_scale: float | None) -> Ridge:
    """λ = wd/s, wd the decay that `optimizer` adds to the last layer's gradient, s·½Ave‖·‖² the loss.

    λ = 0, said in `convention`, where the loss is no multiple of the MSE or the decay is decoupled from the gradient:
    then the trained objective is no ridge problem in the last layer. A parameter that the optimizer does not hold is
    not decayed.
    """
    if half_mse_scale is None:
        return Ridge(0.0, 0.0, "λ = 0: the loss is not a multiple of the MSE")
    held = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    groups = [held.get(id(parameter), {}) for parameter in (classifier.weight, classifier.bias)]
    if isinstance(optimizer, torch.optim.AdamW) or any(group.get("decoupled_weight_decay") for group in groups):
        return Ridge(0.0, 0.0, "λ = 0: the weight decay is decoupled from the gradient")
    weight, bias = (ridge_from_weight_decay(group.get("weight_decay", 0.0), half_mse_scale) for group in groups)
    return Ridge(weight, bias, f"λ = weight decay / s = {weight:g} with the loss s·½Ave‖·‖², s = {half_mse_scale:g}")
