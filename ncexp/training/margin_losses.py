"""conf/loss: losses of the cosines between features and the last layer's rows, with and without a margin.

They take W' (C, P), whose rows have one length s = 1/T, and features h: s cos θ_c = w'_c · h/‖h‖. A network decides by
these where its rows have one length, and its bias, if it has one, is the same for all classes; other heads are refused.
No λ follows: none is a multiple of the MSE.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ncexp.architectures.heads import unit, unit_rows
from ncexp.config import NonNegative


class NormalizedSoftmax:
    """−Ave_i log softmax(s cos θ_i)[y_i] (Wang et al. 2017).

    Of a hyperspherical head it is cross-entropy, whose logits these are; of others the features' lengths are left out.
    """

    half_mse_scale = None
    task = "classes"
    of_cosines = True

    def __init__(self, num_classes: int) -> None:
        del num_classes

    def __call__(self, logits: Tensor, labels: Tensor, features: Tensor, weight: Tensor) -> Tensor:
        del logits
        return functional.cross_entropy(unit(features) @ weight.T, labels)


class CosFace(NormalizedSoftmax):
    """As `NormalizedSoftmax`, the true class's logit s (cos θ_y − m) (Wang et al. 2018); margin: m."""

    def __init__(self, num_classes: int, *, margin: NonNegative = 0.35) -> None:
        super().__init__(num_classes)
        self.margin = margin

    def __call__(self, logits: Tensor, labels: Tensor, features: Tensor, weight: Tensor) -> Tensor:
        del logits
        cosines = unit(features) @ weight.T
        lengths = torch.linalg.vector_norm(weight, dim=1)[labels]
        return functional.cross_entropy(_less(cosines, labels, self.margin * lengths), labels)


class ArcFace(NormalizedSoftmax):
    """As `NormalizedSoftmax`, the true class's logit s cos(θ_y + m) (Deng et al. 2019); margin: m, in radians.

    Beyond θ = π − m, where cos(θ + m) would rise again, s (cos θ − m sin m), as in the authors' code.
    cos(θ + m) = cos θ cos m − sin θ sin m, with sin θ the length of what h/‖h‖ has beside w_y: at collapse, θ = 0, the
    slope of arccos is infinite, that of a length is at most 1. A feature that is 0 has no angle, and no margin.
    """

    def __init__(self, num_classes: int, *, margin: Annotated[float, Field(ge=0, lt=math.pi / 2)] = 0.5) -> None:
        super().__init__(num_classes)
        self.margin = margin

    def __call__(self, logits: Tensor, labels: Tensor, features: Tensor, weight: Tensor) -> Tensor:
        del logits
        directions, rows = unit(features), weight[labels]
        lengths = torch.linalg.vector_norm(rows, dim=1)
        true = rows / lengths.unsqueeze(1)
        cosine = (directions * true).sum(1)
        sine = torch.linalg.vector_norm(directions - cosine.unsqueeze(1) * true, dim=1)
        with_margin = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        less = cosine - torch.where(cosine > -math.cos(self.margin), with_margin, beyond)
        return functional.cross_entropy(_less(directions @ weight.T, labels, less * lengths), labels)


def _less(logits: Tensor, labels: Tensor, less: Tensor) -> Tensor:
    """The logits, those of the true classes less (n,)."""
    return logits - functional.one_hot(labels, logits.shape[1]).to(logits.dtype) * less.unsqueeze(1)


def refuse_other_head(loss: object, name: str, layer: nn.Linear) -> None:
    """Raises ValueError for a loss of cosines with a last layer that decides by more than these, and for one that
    trains the features apart from the last layer where that is fixed: the two would never meet.
    """
    fixed = "weight" in dict(layer.named_buffers(recurse=False))
    if getattr(loss, "of_cosines", False) and not fixed and unit_rows(layer) is None:
        raise ValueError(
            f"architecture.head: expected one that decides by cosines with loss={name}, which trains these alone, got "
            "a linear layer. Choose head=hyperspherical, normalized or etf_fixed, or loss=cross_entropy."
        )
    if getattr(loss, "apart", False) and fixed:
        raise ValueError(
            f"architecture.head: expected one that is trained with loss={name}, which trains the features apart from "
            "the last layer, got a fixed one. Choose head=linear, or another loss."
        )
