"""Free features without renormalization, in continuous time: what is conserved, the known law, and small steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ncexp.collapse import LinearClassifier, class_statistics, least_squares_classifier, snr_singular_values
from ncexp.collapse.free_flows import FreeTrajectory, on_path_gradient_flow, plain_gradient_flow
from ncexp.collapse.on_path import least_squares_step

C, N, P = 3, 8, 4
n = C * N
LABELS = torch.arange(C).repeat_interleave(N)
TARGETS = torch.nn.functional.one_hot(LABELS, C).double()
TIMES = torch.tensor([0.0, 20.0, 80.0, 240.0], dtype=torch.float64)
#: Of the integrator, whose steps are good to 1e-10, over a whole trajectory.
INTEGRATED = 1e-7


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def plain() -> FreeTrajectory:
    return plain_gradient_flow(drawn(n, P), LinearClassifier(drawn(C, P, seed=1), drawn(C, seed=2)), LABELS, TIMES)


@pytest.fixture(scope="module")
def on_path() -> FreeTrajectory:
    return on_path_gradient_flow(drawn(n, P) + TARGETS @ drawn(C, P, seed=3), LABELS, C, TIMES)


def spectrum(features: Tensor) -> Tensor:
    return snr_singular_values(class_statistics(features, LABELS, C))


def loss(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (features @ weight.T + bias - TARGETS).square().sum() / (2 * n)


@pytest.mark.slow
def test_plain_flow_conserves_the_balance_of_layer_and_features(plain: FreeTrajectory) -> None:
    balances = [w.weight.T @ w.weight - h.T @ h for h, w in zip(plain.snapshots, plain.classifiers, strict=True)]
    assert float((plain.snapshots[-1] - plain.snapshots[0]).abs().max()) > 0.1  # it has moved
    for balance in balances[1:]:
        torch.testing.assert_close(balance, balances[0], rtol=0, atol=n * INTEGRATED)  # sums of n squares


@pytest.mark.slow
def test_plain_flow_lowers_the_loss_at_the_rate_of_its_squared_gradient(plain: FreeTrajectory) -> None:
    """dL/dt = −‖∇L‖², over a time so short that the rate changes by 1e-3 of itself at most; gradient by autograd."""
    first = plain.snapshots[0], plain.classifiers[0]
    short = torch.tensor([0.0, 1e-4], dtype=torch.float64)
    after = plain_gradient_flow(first[0], first[1], LABELS, short)
    losses = [
        float(loss(h, w.weight, w.bias))
        for h, w in zip(after.snapshots, after.classifiers, strict=True)  # type: ignore[arg-type]
    ]
    assert first[1].bias is not None
    leaves = [tensor.clone().requires_grad_() for tensor in (first[0], first[1].weight, first[1].bias)]
    gradients = torch.autograd.grad(loss(*leaves), leaves)
    squared = sum(float(gradient.square().sum()) for gradient in gradients)
    assert (losses[0] - losses[1]) / 1e-4 == pytest.approx(squared, rel=1e-3)


def test_flow_on_the_path_grows_every_mode_by_its_own_exponential_law(on_path: FreeTrajectory) -> None:
    start = spectrum(on_path.snapshots[0])
    for time, features in zip(TIMES, on_path.snapshots, strict=True):
        grown = (start * (time / (n * (C + start.square()))).exp()).sort(descending=True).values
        torch.testing.assert_close(spectrum(features), grown, rtol=INTEGRATED, atol=0)


def test_flow_on_the_path_has_the_least_squares_layer_at_every_time(on_path: FreeTrajectory) -> None:
    for features, classifier in zip(on_path.snapshots, on_path.classifiers, strict=True):
        best = least_squares_classifier(class_statistics(features, LABELS, C), 0.0)
        torch.testing.assert_close(classifier.weight, best.weight, rtol=0, atol=0)


def _descended(rate: float, regime: str, start: FreeTrajectory) -> Tensor:
    """Features after descent to the last time, with the gradient that a training's step takes."""
    leaves = [start.snapshots[0].clone().requires_grad_()]
    if regime == "plain":
        layer = start.classifiers[0]
        assert layer.bias is not None
        leaves += [layer.weight.clone().requires_grad_(), layer.bias.clone().requires_grad_()]
    for _ in range(round(float(TIMES[1]) / rate)):
        if regime == "plain":
            value = loss(*leaves)
        else:
            value = (least_squares_step(leaves[0], LABELS, C, (0.0, 0.0)).logits - TARGETS).square().sum() / (2 * n)
        gradients = torch.autograd.grad(value, leaves)
        with torch.no_grad():
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf -= rate * gradient
    return leaves[0].detach()


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["plain", "on_path"])
def test_small_steps_tend_to_the_flow_at_first_order(
    regime: str, plain: FreeTrajectory, on_path: FreeTrajectory
) -> None:
    """Gradient descent is Euler's method: half the step, half the error."""
    flow = plain if regime == "plain" else on_path
    errors = [float((_descended(rate, regime, flow) - flow.snapshots[1]).norm()) for rate in (0.2, 0.1)]
    assert errors[1] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_plain_flow_refuses_a_layer_without_bias() -> None:
    with pytest.raises(ValueError, match="classifier: expected one with bias, got none"):
        plain_gradient_flow(drawn(n, P), LinearClassifier(drawn(C, P)), LABELS, TIMES)
