"""The simplex ETF by its defining properties."""

import pytest
import torch

from ncexp.collapse import simplex_etf

EXACT = 1e-14  # the corners are products of two square roots


@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 1), (2, 5), (3, 2), (10, 9), (10, 64), (200, 199)])
def test_simplex_etf_is_centered_equinorm_and_maximally_equiangular(num_classes, num_features):
    corners = simplex_etf(num_classes, num_features)
    assert corners.shape == (num_classes, num_features)
    assert corners.dtype == torch.float64
    gram = (torch.eye(num_classes, dtype=torch.float64) * num_classes - 1) / (num_classes - 1)
    assert (corners @ corners.T - gram).abs().max() < EXACT
    assert corners.sum(0).abs().max() < EXACT * num_classes


def test_simplex_etf_refuses_too_few_dimensions_and_classes():
    with pytest.raises(ValueError, match="num_features: expected at least C − 1 = 9, got 8"):
        simplex_etf(10, 8)
    with pytest.raises(ValueError, match="num_classes: expected at least 2, got 1"):
        simplex_etf(1, 8)
