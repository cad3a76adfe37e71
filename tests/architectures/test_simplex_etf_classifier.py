"""The fixed last layer: a simplex ETF in every respect, and out of reach of gradient and decay."""

import pytest
import torch
from torch import nn

from ncexp.architectures import Network
from ncexp.architectures.densenet import densenet
from ncexp.architectures.network import SimplexETFClassifier
from ncexp.measure import ridge_of
from ncexp.training.optimizers import sgd

#: float32 numbers of size one, after a sum of up to 64 of them.
TOLERANCE = 1e-6


@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 1), (5, 4), (10, 64)])
def test_weight_is_a_simplex_etf_of_unit_rows(num_classes, num_features):
    torch.manual_seed(0)
    layer = SimplexETFClassifier(num_features, num_classes)
    gram = layer.weight @ layer.weight.T
    expected = (num_classes * torch.eye(num_classes) - 1) / (num_classes - 1)
    assert (gram - expected).abs().max() < TOLERANCE
    assert torch.equal(layer.bias, torch.full((num_classes,), 1 / num_classes))
    # Collapsed features, h = (1 − 1/C) w_c, reach the one-hot targets.
    assert (layer(layer.weight * (1 - 1 / num_classes)) - torch.eye(num_classes)).abs().max() < TOLERANCE
    # The frame is turned at random, so that every feature takes part, and travels with the state.
    other = SimplexETFClassifier(num_features, num_classes)
    assert num_features == 1 or (layer.weight - other.weight).abs().max() > 0.1
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)


def test_training_with_decay_leaves_the_layer_as_it_was():
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), 8, 4, "simplex_etf")
    weight, bias = network.classifier.weight.clone(), network.classifier.bias.clone()
    before = network.backbone[0].weight.clone()
    optimizer = sgd(network.parameters(), lr=0.5, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(5, 6))[0].square().sum().backward()
        optimizer.step()
    assert torch.equal(network.classifier.weight, weight)
    assert torch.equal(network.classifier.bias, bias)
    assert not torch.equal(network.backbone[0].weight, before)
    ridge = ridge_of(optimizer, network.classifier, half_mse_scale=1.0)
    assert (ridge.weight, ridge.bias) == (0.0, 0.0)


def test_too_few_features_are_refused():
    with pytest.raises(ValueError, match="at least C − 1 = 9 features for simplex_etf, got 5"):
        densenet((1, 8, 8), 10, layers=[1, 1], growth_rate=2, classifier="simplex_etf")
