"""Free features trained on the path and renormalized, in continuous time: the closed form, over four decades of ω."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ncexp.collapse import CentralPath, class_statistics, snr_singular_values
from ncexp.collapse.gradient_flow import renormalize
from ncexp.collapse.on_path import renormalized_step

C, N, P = 4, 6, 4
LABELS = torch.arange(C).repeat_interleave(N)
TARGETS = torch.nn.functional.one_hot(LABELS, C).double()
#: Of every ω_j, at every time.
AGREEMENT = 1e-6
START = [0.02, 0.01, 0.005]


def _start() -> Tensor:
    """Features with Σ_W = I whose SNR matrix has the singular values START."""
    generator = torch.Generator().manual_seed(0)
    noise = renormalize(torch.randn(C * N, P, generator=generator, dtype=torch.float64), LABELS, C)
    means = class_statistics(noise, LABELS, C).centered_class_means
    left, _, right = torch.linalg.svd(means, full_matrices=False)
    wanted = (left[:, :3] * torch.tensor(START, dtype=torch.float64)) @ right[:3]
    return noise + TARGETS @ (wanted - means)


def _descent(_: float, state: np.ndarray) -> np.ndarray:
    """Minus the gradient that a step of regime=renormalized takes."""
    features = torch.as_tensor(state).reshape(C * N, P).requires_grad_()
    logits = renormalized_step(features, LABELS, C, (0.0, 0.0)).logits
    loss = (logits - TARGETS).square().sum() / (2 * C * N)
    (gradient,) = torch.autograd.grad(loss, features)
    return -gradient.flatten().numpy()


@pytest.mark.slow
def test_renormalized_descent_is_the_closed_form_over_four_decades() -> None:
    """DOP853 from ω = 0.005 to beyond 100, against c1 log ω + c2 ω² + c3 ω⁴ = a + t."""
    times = torch.cat([torch.zeros(1), torch.logspace(1, 8.3, 12)]).double()
    start = _start()
    options = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-12, "t_eval": times.numpy()}
    solution = solve_ivp(_descent, (0.0, float(times[-1])), start.flatten().numpy(), **options)
    spectra = torch.stack(
        [snr_singular_values(class_statistics(torch.as_tensor(y).reshape(C * N, P), LABELS, C)) for y in solution.y.T]
    )
    assert spectra[0].tolist() == pytest.approx(START, rel=1e-10)
    assert float(spectra[-1].min() / spectra[0].min()) > 1e4
    predicted = CentralPath(torch.tensor(START, dtype=torch.float64), C, N).singular_values(times)
    assert float((spectra / predicted).log().abs().max()) < AGREEMENT
