"""Row sums of a classifier, against torch's SGD on cross-entropy with features that move, and the roots by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from ncexp.collapse import row_sum_factors, row_sum_rate

#: Float64, a hundred steps of sums of twenty terms.
ROUNDING = 1e-12


@pytest.mark.parametrize(
    ("lr", "decay", "momentum"), [(0.1, 0.2, 0.0), (0.1, 0.2, 0.9), (0.2, 0.5, 0.5), (0.1, 0.0, 0.9)]
)
def test_row_sums_of_sgd_follow_the_recursion(lr: float, decay: float, momentum: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    features = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight, features], lr=lr, momentum=momentum, weight_decay=decay)
    first, found = weight.detach().sum(0), [torch.ones(4, dtype=torch.float64)]
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(features @ weight.T, torch.arange(6) % 3).backward()
        optimizer.step()
        found.append(weight.detach().sum(0) / first)
    expected = row_sum_factors(100, lr, decay, momentum)
    assert torch.allclose(torch.stack(found), expected[:, None].expand(-1, 4), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("lr", "decay", "momentum"), [(0.1, 0.2, 0.0), (0.1, 0.02, 0.9), (0.5, 0.5, 0.9), (1.0, 2.5, 0.0)]
)
def test_row_sum_rate_is_the_larger_root(lr: float, decay: float, momentum: float) -> None:
    """At the third, of complex roots; at the last, of a rate at which the sum changes sign and grows."""
    roots = np.polynomial.Polynomial([momentum, -(1 + momentum - lr * decay), 1]).roots()
    rate = row_sum_rate(lr, decay, momentum)
    assert rate == pytest.approx(max(abs(roots)), rel=ROUNDING)
    factors = row_sum_factors(400, lr, decay, momentum).abs()
    if np.isreal(roots).all():
        assert float(factors[-1] / factors[-2]) == pytest.approx(rate, rel=1e-9)


def test_momentum_is_a_larger_rate_for_small_decay() -> None:
    assert 1 - row_sum_rate(0.01, 1e-4, 0.9) == pytest.approx(10 * (1 - row_sum_rate(0.01, 1e-4)), rel=1e-3)


@pytest.mark.parametrize("given", [(0, 0.1, 0.1, 0.0), (1, 0.0, 0.1, 0.0), (1, 0.1, -0.1, 0.0), (1, 0.1, 0.1, 1.0)])
def test_row_sum_factors_refuse(given: tuple[int, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"steps: expected|row sums: expected"):
        row_sum_factors(*given)
