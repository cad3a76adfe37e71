"""DeepFool against the exact distance to the boundary of a linear classifier, and as a bound on a trained network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ncexp.architectures import Network
from ncexp.architectures.mlp import mlp
from ncexp.measure.deepfool import OVERSHOOT, deepfool, robustness

#: float64 sums of some dozens of terms.
ROUNDING = 1e-10


def linear(num_classes: int, shape: tuple[int, ...]) -> Network:
    torch.manual_seed(0)
    return Network(nn.Flatten(), int(np.prod(shape)), num_classes).double()


@pytest.mark.parametrize(("num_classes", "shape"), [(2, (5,)), (4, (6,)), (7, (2, 3, 3))])
def test_perturbation_is_exact_on_a_linear_classifier(num_classes, shape):
    network = linear(num_classes, shape)
    inputs = torch.randn(20, *shape, dtype=torch.float64)
    perturbations, crossed = deepfool(network, inputs)
    weight, bias = network.classifier.weight.detach().numpy(), network.classifier.bias.detach().numpy()
    for x, r in zip(inputs.flatten(1).numpy(), perturbations.flatten(1).numpy(), strict=True):
        logits = weight @ x + bias
        decided = logits.argmax()
        others = [k for k in range(num_classes) if k != decided]
        distances = [(logits[decided] - logits[k]) / np.linalg.norm(weight[decided] - weight[k]) for k in others]
        nearest = others[int(np.argmin(distances))]
        direction = (weight[nearest] - weight[decided]) / np.linalg.norm(weight[nearest] - weight[decided])
        np.testing.assert_allclose(r, min(distances) * direction, rtol=ROUNDING, atol=ROUNDING)
    assert crossed.all()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_perturbation_changes_the_decision_of_a_network_that_is_not_linear():
    torch.manual_seed(0)
    network = mlp((8,), 5, hidden=[32, 16])
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(64, 8))  # so that the batch norms know their inputs
    inputs = torch.randn(30, 8)
    perturbations, crossed = deepfool(network, inputs)
    assert network.training
    network.eval()
    before, _ = network(inputs)
    after, _ = network(inputs + (1 + OVERSHOOT) * perturbations)
    assert crossed.all()
    assert (before.argmax(1) != after.argmax(1)).all()
    lengths = perturbations.norm(dim=1)
    # No random direction of that length does it more often than now and then: the perturbation is a small one.
    random = torch.randn(200, 30, 8)
    random = random / random.norm(dim=2, keepdim=True) * lengths[:, None] * (1 - 1e-3)
    changed = torch.stack([network(inputs + r)[0].argmax(1) != before.argmax(1) for r in random])
    assert changed.float().mean() < 0.1


def test_perturbation_of_one_example_does_not_depend_on_the_others():
    torch.manual_seed(0)
    network = mlp((8,), 5, hidden=[32, 16], batch_norm=True).double()
    inputs = torch.randn(6, 8, dtype=torch.float64)
    together = deepfool(network, inputs)[0]
    alone = torch.cat([deepfool(network, x.unsqueeze(0))[0] for x in inputs])
    torch.testing.assert_close(together, alone, rtol=ROUNDING, atol=ROUNDING)


def test_robustness_is_the_average_relative_distance():
    network = linear(3, (4,))
    inputs = torch.randn(10, 4, dtype=torch.float64)
    perturbations, _ = deepfool(network, inputs)
    expected = np.mean([r.norm().item() / x.norm().item() for r, x in zip(perturbations, inputs, strict=True)])
    assert robustness(network, inputs) == (pytest.approx(expected, rel=ROUNDING), 0)


def test_network_that_always_answers_the_same_has_no_boundary():
    network = linear(3, (4,))
    nn.init.zeros_(network.classifier.weight)
    ratio, not_crossed = robustness(network, torch.ones(5, 4, dtype=torch.float64))
    assert not_crossed == 5
    assert np.isnan(ratio)


@pytest.mark.parametrize(
    ("measure", "num_classes", "inputs", "words"),
    [
        (deepfool, 3, torch.empty(0, 4), "expected at least one example, got none"),
        (deepfool, 1, torch.ones(2, 4), "expected logits of at least two classes, got 1"),
        (robustness, 3, torch.tensor([[1.0] * 4, [0.0] * 4]), "got 0 at example 1"),
    ],
)
def test_what_has_no_boundary_or_length_is_refused(measure, num_classes, inputs, words):
    with pytest.raises(ValueError, match=words):
        measure(linear(num_classes, (4,)), inputs.double())
