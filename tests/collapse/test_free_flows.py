"""Free features without renormalization, in continuous time: what is conserved, and the known law.

That a training in small steps tends to these flows is held by tests/simulations/test_regimes.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ncexp.collapse import LinearClassifier, class_statistics, snr_singular_values
from ncexp.collapse.gradient_flow import States, on_path_gradient_flow, plain_gradient_flow

C, N, P = 3, 8, 4
n = C * N
LABELS = torch.arange(C).repeat_interleave(N)
TARGETS = torch.nn.functional.one_hot(LABELS, C).double()
TIMES = torch.tensor([0.0, 20.0, 80.0, 240.0], dtype=torch.float64)
#: Of the integrator, whose steps are good to 1e-10, over a whole trajectory.
INTEGRATED = 1e-7


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (features @ weight.T + bias - TARGETS).square().sum() / (2 * n)


@pytest.fixture(scope="module")
def plain() -> States:
    return plain_gradient_flow(drawn(n, P), LinearClassifier(drawn(C, P, seed=1), drawn(C, seed=2)), LABELS, TIMES)


@pytest.mark.slow
def test_plain_flow_conserves_the_balance_of_layer_and_features(plain: States) -> None:
    balances = [layer.weight.T @ layer.weight - h.T @ h for h, layer in plain]
    assert float((plain[-1][0] - plain[0][0]).abs().max()) > 0.1  # it has moved
    for balance in balances[1:]:
        torch.testing.assert_close(balance, balances[0], rtol=0, atol=n * INTEGRATED)  # sums of n squares


@pytest.mark.slow
def test_plain_flow_lowers_the_loss_at_the_rate_of_its_squared_gradient(plain: States) -> None:
    """dL/dt = −‖∇L‖², over a time so short that the rate changes by 1e-3 of itself at most; gradient by autograd."""
    features, layer = plain[0]
    short = torch.tensor([0.0, 1e-4], dtype=torch.float64)
    flow = plain_gradient_flow(features, layer, LABELS, short)
    losses = [float(loss(h, w.weight, w.bias)) for h, w in flow]  # type: ignore[arg-type]
    leaves = [tensor.clone().requires_grad_() for tensor in (features, layer.weight, layer.bias)]  # type: ignore[union-attr]
    gradients = torch.autograd.grad(loss(*leaves), leaves)
    squared = sum(float(gradient.square().sum()) for gradient in gradients)
    assert (losses[0] - losses[1]) / 1e-4 == pytest.approx(squared, rel=1e-3)


def test_flow_on_the_path_grows_every_mode_by_its_own_exponential_law() -> None:
    flow = on_path_gradient_flow(drawn(n, P) + TARGETS @ drawn(C, P, seed=3), LABELS, C, TIMES)
    spectra = [snr_singular_values(class_statistics(h, LABELS, C)) for h, _ in flow]
    for time, spectrum in zip(TIMES, spectra, strict=True):
        grown = (spectra[0] * (time / (n * (C + spectra[0].square()))).exp()).sort(descending=True).values
        torch.testing.assert_close(spectrum, grown, rtol=INTEGRATED, atol=0)


def test_plain_flow_refuses_a_layer_without_bias() -> None:
    with pytest.raises(ValueError, match="classifier: expected one with bias, got none"):
        plain_gradient_flow(drawn(n, P), LinearClassifier(drawn(C, P)), LABELS, TIMES)
