"""λ against the objective that is really trained: at λ's least-squares classifier its gradient vanishes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ncexp.collapse import class_statistics, least_squares_classifier
from ncexp.measure import ridge_of
from ncexp.training.losses import MSE
from ncexp.training.optimizers import adam, adamw, sgd

#: The gradient at the optimum against the gradient at 0, in float64.
STATIONARY = 1e-10


def _decayed_gradient(layer: nn.Linear, features: torch.Tensor, labels: torch.Tensor, loss: MSE, decay: float) -> float:
    """‖∂/∂W̃ (loss + decay/2 ‖W̃‖²)‖, what coupled weight decay descends."""
    layer.zero_grad()
    (loss(layer(features), labels) + decay / 2 * sum(p.square().sum() for p in layer.parameters())).backward()
    return float(sum(p.grad.square().sum() for p in layer.parameters() if p.grad is not None)) ** 0.5


@pytest.mark.parametrize("scale", [1.0, "2/C", 7.0])
def test_ridge_makes_the_trained_objective_stationary(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(60, 4, generator=generator, dtype=torch.float64).relu() + 0.3
    labels = torch.arange(60) % 7 % 3  # unbalanced
    layer, loss, decay = nn.Linear(4, 3).double(), MSE(3, scale=scale), 0.02
    ridge = ridge_of(sgd(layer.parameters(), lr=0.1, weight_decay=decay), layer, loss.half_mse_scale)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    at_zero = _decayed_gradient(layer, features, labels, loss, decay)
    best = least_squares_classifier(class_statistics(features, labels, 3), (ridge.weight, ridge.bias))
    with torch.no_grad():
        layer.weight.copy_(best.weight), layer.bias.copy_(best.bias)
    assert _decayed_gradient(layer, features, labels, loss, decay) < STATIONARY * at_zero


def test_ridge_is_zero_and_says_why_where_there_is_none() -> None:
    layer = nn.Linear(4, 3)
    coupled = adam(layer.parameters(), lr=0.1, betas=[0.9, 0.99], weight_decay=0.1)
    decoupled = adamw(layer.parameters(), lr=0.1, betas=[0.9, 0.99], weight_decay=0.1)
    assert ridge_of(coupled, layer, 1.0).weight == 0.1
    assert (ridge_of(decoupled, layer, 1.0).weight, ridge_of(decoupled, layer, 1.0).bias) == (0, 0)
    assert "decoupled" in ridge_of(decoupled, layer, 1.0).convention
    assert "not a multiple of the MSE" in ridge_of(coupled, layer, None).convention


def test_ridge_follows_each_parameters_own_group() -> None:
    layer = nn.Linear(4, 3)
    groups = [{"params": [layer.weight], "weight_decay": 0.4}, {"params": [layer.bias], "weight_decay": 0.0}]
    ridge = ridge_of(torch.optim.SGD(groups, lr=0.1), layer, 2.0)
    assert (ridge.weight, ridge.bias) == (0.2, 0.0)
