"""Unconstrained features: H itself is the parameter, as if the network before the last layer could do anything.

The model in which neural collapse is proved (Mixon et al. 2020; Zhu et al. 2021; Zhou et al. 2022; HPD22 section 3):
one feature vector h_i an example, trained by the ordinary loop with the ordinary losses and decay. All is float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncexp.architectures.network import Classifier, Network
from ncexp.config import Width


def unconstrained_features(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    num_features: Width,
    classifier: Classifier = "linear",
) -> Network:
    """H (n, P) from a standard normal, and a classifier.

    input_shape: (n,), the examples' numbers as rows of the identity, in the order of their classes, as
    dataset=unconstrained has them.

    Raises ValueError where the inputs are no such rows.
    """
    if len(input_shape) != 1:
        raise ValueError(
            f"architecture=unconstrained_features: expected inputs that number the examples, got inputs of shape "
            f"{input_shape} in {num_classes} classes. Choose dataset=unconstrained."
        )
    features = FreeFeatures(input_shape[0], num_features)
    return Network(features, num_features, num_classes, classifier).double()


class FreeFeatures(nn.Module):
    """H, (n, P): the features of example i are row i, and nothing else."""

    def __init__(self, num_examples: int, num_features: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(num_examples, num_features, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (m, n), rows of the identity → (m, P)."""
        numbers = inputs.argmax(dim=1)
        if not torch.equal(inputs, functional.one_hot(numbers, len(self.table)).to(inputs)):
            raise ValueError(
                "architecture=unconstrained_features: expected rows of the identity as inputs, got others. "
                "Choose dataset=unconstrained, or unconstrained_targets."
            )
        return self.table[numbers]
