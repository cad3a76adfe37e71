"""Unconstrained features: H itself is the parameter, as if the network before the last layer could do anything.

The model in which neural collapse is proved (Mixon et al. 2020; Zhu et al. 2021; Zhou et al. 2022; HPD22 section 3):
one feature vector h_i an example, trained by the ordinary loop with the ordinary losses and decay. All is float64.
With layers = k it is the deep model, W_k σ(W_{k−1} … σ(W_1 h_i)) + b, with σ the identity (Dang et al. 2023) or ReLU
(Súkeník et al. 2024): `ncexp.collapse.deep_minimum` has its minima.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncexp.architectures.network import Classifier, Network
from ncexp.config import ADDED, Count, Positive, Width

#: σ between the layers.
Activation = Literal["linear", "relu"]


def unconstrained_features(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    num_features: Width,
    classifier: Classifier = "linear",
    layers: Annotated[Count, ADDED] = 1,
    activation: Annotated[Activation, ADDED] = "linear",
    bias: Annotated[bool, ADDED] = True,
    spectrum: Annotated[list[Positive] | None, ADDED] = None,
) -> Network:
    """H (n, P) from a standard normal, layers W_1 to W_{k−1} (P, P) without bias, and a classifier W_k.

    input_shape: (n,), the examples' numbers as rows of the identity, in the order of their classes, as
    dataset=unconstrained has them. layers: k, the classifier counted, whose inputs are the network's features.
    activation: σ, after each of the k − 1 layers. bias: of the classifier. Weights of the layers before the classifier
    are normal, of variance 1/P, with ReLU 2/P, which keeps lengths. spectrum: the singular values of W_k … W_1 H at the
    start, the others 0; see `set_spectrum`.

    Raises ValueError where the inputs are no such rows, for options that do not go together, and for a spectrum of more
    values than W_k … W_1 H has.
    """
    if len(input_shape) != 1:
        raise ValueError(
            f"architecture=unconstrained_features: expected inputs that number the examples, got inputs of shape "
            f"{input_shape} in {num_classes} classes. Choose dataset=unconstrained."
        )
    if classifier != "linear" and not (bias and spectrum is None):
        name, given = ("bias", "false") if not bias else ("spectrum", spectrum)
        raise ValueError(
            f"architecture.{name}: expected none with classifier={classifier}, which is fixed, got {given}. Choose "
            "classifier=linear."
        )
    if activation != "linear" and layers == 1:
        raise ValueError(
            f"architecture.activation: expected linear with layers=1, which has nothing between, got {activation}. Set "
            "architecture.layers=2 or more."
        )
    features = FreeFeatures(input_shape[0], num_features, layers, activation)
    network = Network(features, num_features, num_classes, classifier).double()
    if not bias:
        network.classifier.register_parameter("bias", None)
    if spectrum is not None:
        set_spectrum([*features.parameters(), network.classifier.weight], spectrum)
    return network


class FreeFeatures(nn.Module):
    """H, (n, P), behind k − 1 layers: the output of example i is that of row i, and of nothing else."""

    def __init__(
        self, num_examples: int, num_features: int, layers: int = 1, activation: Activation = "linear"
    ) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(num_examples, num_features, dtype=torch.float64))
        self.rectifies = activation == "relu"
        deviation = ((2 if self.rectifies else 1) / num_features) ** 0.5
        hidden = [nn.Linear(num_features, num_features, bias=False) for _ in range(layers - 1)]
        for layer in hidden:
            nn.init.normal_(layer.weight, std=deviation)
        self.layers = nn.ModuleList(hidden)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (m, n), rows of the identity → (m, P)."""
        numbers = inputs.argmax(dim=1)
        if not torch.equal(inputs, functional.one_hot(numbers, len(self.table)).to(inputs)):
            raise ValueError(
                "architecture=unconstrained_features: expected rows of the identity as inputs, got others. "
                "Choose dataset=unconstrained, or unconstrained_targets."
            )
        features = self.table[numbers]
        for layer in self.layers:
            features = layer(features)
            if self.rectifies:
                features = functional.relu(features)
        return features


@torch.no_grad()
def set_spectrum(factors: list[Tensor], values: list[float]) -> None:
    """Give the product W_k … W_1 Hᵀ these singular values, balanced: each factor has their (k + 1)-th root.

    With orthonormal columns R_j drawn, H = V S R_0ᵀ, W_j = R_j S R_{j−1}ᵀ, W_k = U S R_{k−1}ᵀ, S = diag(s)^{1/(k+1)}.
    So W_{j+1}ᵀ W_{j+1} = W_j W_jᵀ, which gradient flow of a linear network keeps (Arora et al. 2018). What is 0 at the
    start stays 0: the rank of W_k … W_1 Hᵀ is never more than the number of values.

    factors: H (n, P), W_1, ..., W_k (C, P); they are overwritten.
    Raises ValueError for more values than the smallest of n, P and C.
    """
    most = min(min(factor.shape) for factor in factors)
    if not 1 <= len(values) <= most:
        raise ValueError(
            f"architecture.spectrum: expected 1 to {most} singular values, as many as W_k … W_1 H has, got "
            f"{len(values)}. Leave the others out: they are 0."
        )
    table, *weights = factors
    roots = torch.tensor(values, dtype=torch.float64) ** (1 / len(factors))
    before = _orthonormal(table.shape[1], len(values))
    table.copy_(_orthonormal(len(table), len(values)) * roots @ before.T)
    for weight in weights:
        after = _orthonormal(len(weight), len(values))
        weight.copy_(after * roots @ before.T)
        before = after


def _orthonormal(rows: int, columns: int) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64)).Q
