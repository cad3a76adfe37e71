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


class OneGradient(torch.autograd.Function):
    """A rectifier whose gradient looks at a number, which takes one gradient at a time."""

    @staticmethod
    def forward(context, inputs):
        context.save_for_backward(inputs)
        return inputs.clamp(min=0)

    @staticmethod
    def backward(context, gradient):
        assert gradient.sum().item() is not None
        return gradient * (context.saved_tensors[0] > 0)


class Rectifier(nn.Module):
    def forward(self, inputs):
        return OneGradient.apply(inputs)


class Twice(nn.Module):
    """Logits of which two are always equal."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        logits, features = self.network(inputs)
        return torch.cat([logits, logits[:, :1]], 1), features


def written_out(network, x, max_iterations, num_candidates=10):
    """DeepFool of one example in float64, as the paper has it, a gradient at a time."""

    def logits(z):
        return network(z.unsqueeze(0))[0][0]

    first = logits(x).topk(min(num_candidates, len(logits(x)))).indices.tolist()
    r = torch.zeros_like(x)
    for _ in range(max_iterations):
        z = x + (1 + OVERSHOOT) * r
        if int(logits(z).argmax()) != first[0]:
            break
        steps = []
        for k in first[1:]:
            at = z.detach().requires_grad_()
            gap = logits(at)[k] - logits(at)[first[0]]
            (w,) = torch.autograd.grad(gap, at)
            gap = abs(gap.item())
            if float(w.norm()) > 0:
                steps.append((gap / float(w.norm()), gap / float(w.norm()) ** 2 * w))
        if steps:
            r = r + min(steps, key=lambda one: one[0])[1]
    return r.detach(), int(logits(x + (1 + OVERSHOOT) * r).argmax()) != first[0]


#: What the loop written out is held against: classes, hidden layers, inputs, steps, what is changed of the network.
CASES = {
    "ten classes": (10, [24, 16], 20, 50, None),
    "some do not cross in time": (10, [24, 16], 20, 2, None),
    "two classes": (2, [12], 8, 50, None),
    "more classes than candidates": (14, [12], 8, 50, None),
    "equal logits": (3, [12], 12, 50, Twice),
    "one gradient at a time": (6, [12], 6, 50, "rectifier"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("most", [3, 256])
def test_perturbation_is_that_of_the_loop_written_out(case, most, monkeypatch):
    num_classes, hidden, num, max_iterations, change = CASES[case]
    torch.manual_seed(1)
    network = mlp((8,), num_classes, hidden=hidden, batch_norm=True).double()
    with torch.no_grad():
        for _ in range(20):
            network(3 * torch.randn(64, 8, dtype=torch.float64))
    if change == "rectifier":
        for name, module in [*network.backbone.named_children()]:
            if isinstance(module, nn.ReLU):
                setattr(network.backbone, name, Rectifier())
        assert any(isinstance(module, Rectifier) for module in network.modules())
    elif change is not None:
        network = change(network)
    network.eval()
    inputs = 3 * torch.randn(num, 8, dtype=torch.float64)
    monkeypatch.setattr("ncexp.measure.deepfool.MOST_GRADIENTS", most)
    perturbations, crossed = deepfool(network, inputs, max_iterations=max_iterations)
    expected, crosses = zip(*(written_out(network, x, max_iterations) for x in inputs), strict=True)
    torch.testing.assert_close(perturbations, torch.stack(expected), rtol=1e-8, atol=ROUNDING)
    assert crossed.tolist() == [*crosses]
    if case == "some do not cross in time":
        assert 0 < crossed.sum() < num


def test_gradients_are_taken_only_of_examples_that_have_not_crossed():
    torch.manual_seed(0)
    network = mlp((8,), 5, hidden=[32, 16]).eval()
    inputs, steps, passes = 3 * torch.randn(40, 8), [], []

    def note(_, given):
        (passes if torch.is_grad_enabled() else steps).append(len(given[0]))

    with_hook = network.register_forward_pre_hook(note)
    deepfool(network, inputs)
    with_hook.remove()
    before, *checked, at_last = steps  # of the decisions: all, those that were moved, all
    assert (before, at_last) == (40, 40)
    assert checked[0] == passes[0] == 40
    assert passes[1:] == [*checked[1:]] + [0] * (len(passes) - len(checked))


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
