"""The last layer of every network: a linear classifier that learns, or a simplex ETF that does not."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ncexp.collapse import simplex_etf

Classifier = Literal["linear", "simplex_etf"]


def make_classifier(kind: Classifier, num_features: int, num_classes: int) -> nn.Linear:
    """ "linear": torch's layer at torch's default initialisation; "simplex_etf": a `SimplexETFClassifier`."""
    if kind == "simplex_etf":
        return SimplexETFClassifier(num_features, num_classes)
    return nn.Linear(num_features, num_classes)


class SimplexETFClassifier(nn.Linear):
    """A last layer fixed at the frame that neural collapse would lead it to (Zhu et al. 2021, section 4).

    W = √(C/(C−1)) (I − 11ᵀ/C) Qᵀ: unit rows, turned by a random Q (P, C−1) with orthonormal columns from torch's
    global generator; without the turn, features that a ReLU keeps non-negative could not reach the frame's negative
    coordinates. b = 1/C, which cross-entropy does not see and without which logits that sum to zero could not meet
    one-hot targets. Both are buffers: no gradient, no decay, no optimizer; saved and moved as any state.

    Raises ValueError where P < C − 1: no simplex of C corners fits.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        if num_features < num_classes - 1:
            raise ValueError(
                f"architecture.classifier: expected at least C − 1 = {num_classes - 1} features for simplex_etf, "
                f"got {num_features}. Choose classifier=linear or a wider network."
            )
        super().__init__(num_features, num_classes)
        corners = simplex_etf(num_classes, num_classes - 1)
        turn = torch.linalg.qr(torch.randn(num_features, num_classes - 1, dtype=torch.float64)).Q
        weight = (corners @ turn.T).to(self.weight.dtype)
        bias = torch.full_like(self.bias, 1 / num_classes).detach()
        del self.weight, self.bias
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
