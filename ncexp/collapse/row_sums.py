"""NC0 under gradient descent with momentum and coupled decay: how fast the rows of a classifier come to sum to 0.

Cross-entropy's gradient with respect to W (C, P) has rows that sum to 0, as softmax − onehot sums to 0 over classes. So
r = Wᵀ1 is moved by decay alone. With learning rate η, coupled decay λ, and torch's momentum v ← μ v + g + λ W,
W ← W − η v, v = 0 at first:

    r_{t+1} = (1 + μ − ηλ) r_t − μ r_{t−1},    r_1 = (1 − ηλ) r_0.

For μ = 0 it is r_t = (1 − ηλ)^t r_0. Otherwise it falls at last as the larger root of x² − (1 + μ − ηλ) x + μ, which is
1 − ηλ/(1 − μ) for small ηλ: momentum speeds it up as a larger rate would, and no faster than μ^½ a step, the modulus of
both roots once ηλ exceeds (1 − μ^½)². Derived here; Zhao et al. 2026 state by their abstract that momentum accelerates
neural collapse beyond the convergence of the training loss.
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_sum_factors(steps: int, lr: float, decay: float, momentum: float = 0.0) -> Tensor:
    """r_t/r_0 of t = 0, ..., steps, (steps + 1,) float64; one number for all entries of r = Wᵀ1.

    Args:
        steps: at least 1; lr: η > 0; decay: λ >= 0, coupled; momentum: μ from 0 to below 1.

    Raises:
        ValueError: numbers outside these bounds.

    >>> row_sum_factors(2, lr=0.5, decay=0.2).tolist()
    [1.0, 0.9, 0.81]
    """
    _check(lr, decay, momentum)
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}.")
    values = [1.0, 1 - lr * decay]
    for _ in range(steps - 1):
        values.append((1 + momentum - lr * decay) * values[-1] - momentum * values[-2])
    return torch.tensor(values, dtype=torch.float64)


def row_sum_rate(lr: float, decay: float, momentum: float = 0.0) -> float:
    """The factor by which a row sum shrinks a step at last: the modulus of the larger root.

    Arguments and errors are those of `row_sum_factors`.
    """
    _check(lr, decay, momentum)
    half = (1 + momentum - lr * decay) / 2
    inside = half**2 - momentum
    return abs(half) + inside**0.5 if inside >= 0 else momentum**0.5


def _check(lr: float, decay: float, momentum: float) -> None:
    if not (lr > 0 and decay >= 0 and 0 <= momentum < 1):
        raise ValueError(
            f"row sums: expected lr > 0, decay >= 0 and a momentum from 0 to below 1, got {lr}, {decay}, {momentum}."
        )
