"""Unconstrained features: H itself is the parameter, as if the network before the last layer could do anything.

The model in which neural collapse is proved (Mixon et al. 2020; Zhu et al. 2021; Zhou et al. 2022; HPD22 section 3):
one feature vector h_i an example, trained by the ordinary loop with the ordinary losses and decay. All is float64.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncexp.architectures.classifiers import Classifier
from ncexp.architectures.network import Network
from ncexp.config import Count


def unconstrained_features(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    num_features: Count,
    classifier: Classifier | Literal["least_squares"] = "linear",
) -> Network:
    """H (n, P) from a standard normal, and a classifier: trained with it, fixed, or tied to W_LS(H).

    input_shape: (n,), the examples' numbers as rows of the identity, in the order of their classes with n/C examples
    each, as dataset=unconstrained has them. classifier: "linear" or "simplex_etf" as for every network;
    "least_squares": `LeastSquaresNetwork`, on the central path by construction.

    Raises ValueError where the inputs are no such rows, or for least_squares where P > n − C leaves Σ_W singular.
    """
    if len(input_shape) != 1 or input_shape[0] % num_classes:
        raise ValueError(
            f"architecture=unconstrained_features: expected inputs that number the examples, got inputs of shape "
            f"{input_shape} in {num_classes} classes. Choose dataset=unconstrained."
        )
    (num_examples,) = input_shape
    features = FreeFeatures(num_examples, num_features)
    if classifier != "least_squares":
        return Network(features, num_features, num_classes, classifier).double()
    if num_features > num_examples - num_classes:
        raise ValueError(
            f"architecture.num_features: expected at most n - C = {num_examples - num_classes} for "
            f"classifier=least_squares, got {num_features}. Beyond, some direction has no variation within classes."
        )
    return LeastSquaresNetwork(features, num_features, num_classes).double()


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
                "Choose dataset=unconstrained."
            )
        return self.table[numbers]


class LeastSquaresNetwork(Network):
    """The central path by construction (HPD22 section 3): the classifier is (W_LS, b_LS) at λ = 0, of H as it is.

    W_LS = (1/C) M̄ᵀ Σ_T^{-1} and b_LS = 1/C − W_LS μ_G of ALL examples, whatever the batch. The loss sends its gradient
    through them to H. `classifier` holds their values, for whoever looks, and nothing of it is trained.
    """

    def __init__(self, features: FreeFeatures, num_features: int, num_classes: int) -> None:
        super().__init__(features, num_features, num_classes)
        for name in ("weight", "bias"):
            value = getattr(self.classifier, name).detach().double()
            delattr(self.classifier, name)
            self.classifier.register_buffer(name, value)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.backbone, FreeFeatures)
        weight, bias = _least_squares(self.backbone.table, self.classifier.out_features)
        self.classifier.weight.copy_(weight.detach())
        self.classifier.bias.copy_(bias.detach())
        features = self.backbone(inputs)
        return functional.linear(features, weight, bias), features


def _least_squares(table: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """(W_LS, b_LS) of features in the order of their classes, equally many each; differentiable."""
    mean = table.mean(dim=0)
    centered = table - mean
    class_means = centered.reshape(num_classes, -1, table.shape[1]).mean(dim=1)
    total_covariance = centered.T @ centered / len(table)
    weight = torch.linalg.solve(total_covariance, class_means.T).T / num_classes
    return weight, 1 / num_classes - weight @ mean
