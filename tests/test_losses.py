"""The losses against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ncexp.losses import MSE, CrossEntropy

#: float64 sums of some dozens of terms.
ROUNDING = 1e-12


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 5, generator=generator, dtype=torch.float64), torch.randint(5, (12,), generator=generator)


def test_mse_is_half_the_squared_distance_summed_over_classes(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    squares = sum((logits[i, c].item() - float(c == labels[i])) ** 2 for i in range(12) for c in range(5))
    assert MSE(5, scale=3.0)(logits, labels).item() == pytest.approx(3 * squares / 2 / 12, rel=ROUNDING)


def test_mse_scale_two_over_c_is_torch_mse_loss(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    loss = MSE(5, scale="2/C")
    expected = torch.nn.MSELoss()(logits, functional.one_hot(labels, 5).double())
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=ROUNDING)
    assert loss.half_mse_scale == 2 / 5


def test_cross_entropy_is_torchs_and_no_multiple_of_the_mse(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    expected = -torch.log_softmax(logits, 1)[torch.arange(12), labels].mean()
    assert CrossEntropy(5)(logits, labels).item() == pytest.approx(expected.item(), rel=ROUNDING)
    assert CrossEntropy.half_mse_scale is None
