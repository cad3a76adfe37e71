"""conf/loss/supervised_contrastive: features trained against each other, and a last layer that only reads them."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ncexp.architectures.heads import unit
from ncexp.config import ADDED, Positive

#: One as everywhere, or the two of the paper.
Views = Annotated[Literal[1, 2], ADDED]
#: Similarities that are held at once: rows of a set's are taken some at a time where no gradient keeps them all.
_AT_ONCE = 2**24


class SupervisedContrastive:
    """Ave_i [−1/|P(i)| Σ_{p ∈ P(i)} log(exp(u_i·u_p/T) / Σ_{a ≠ i} exp(u_i·u_a/T))], u = h/‖h‖, + cross-entropy of the
    last layer (Khosla et al. 2020, L_out of their two losses).

    P(i): the other examples of the batch that have the class of i. Those whose class has no other example are no
    anchors; of a batch without any the first term is 0. views: how many changed images of each example
    (`dataset.augment`) a batch of the training has, rows of one class each.

    The second term is that of logits W h + b with h held fixed: it trains the last layer, which the first leaves as it
    is, and moves no feature. Their training has a second stage for it.

    temperature: T. The loss takes its examples together: it is no mean over them, and that of a split is of all of its
    examples as one batch.
    """

    half_mse_scale = None
    no_ridge = "the features are trained against each other, by a loss in which the last layer has no part"
    task = "classes"
    #: The features know nothing of the last layer.
    apart = True

    def __init__(self, num_classes: int, *, temperature: Positive = 0.1, views: Views = 1) -> None:
        del num_classes
        self.temperature, self.views = temperature, views

    def __call__(self, logits: Tensor, labels: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        del logits  # the same numbers, by which the features would be moved too
        reading = functional.cross_entropy(functional.linear(features.detach(), weight, bias), labels)
        return self._contrast(unit(features), labels) + reading

    def _contrast(self, directions: Tensor, labels: Tensor) -> Tensor:
        count, total = len(labels), directions.new_zeros(())
        num_anchors = torch.zeros((), dtype=torch.int64, device=labels.device)
        for rows in torch.arange(count, device=labels.device).split(max(1, _AT_ONCE // count)):
            similar = directions[rows] @ directions.T / self.temperature
            itself = rows.unsqueeze(1) == torch.arange(count, device=labels.device)
            positive = (labels[rows].unsqueeze(1) == labels) & ~itself
            # No −inf: of a batch of one example nothing else is summed.
            of_all = similar.masked_fill(itself, torch.finfo(similar.dtype).min / 2).logsumexp(1)
            num_positive = positive.sum(1)
            mean = torch.where(positive, similar, 0.0).sum(1) / num_positive.clamp(min=1)  # 0 of no anchor
            total = total + torch.where(num_positive > 0, of_all - mean, 0.0).sum()
            num_anchors += (num_positive > 0).sum()
        return total / num_anchors.clamp(min=1)  # without any the sum is 0
