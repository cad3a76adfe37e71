"""One-vs-rest margins: exact cases, and against a plain search over convex combinations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from ncexp.collapse import one_vs_rest_margin, simplex_etf

#: A problem of non-negative least squares in float64.
ROUNDING = 1e-10


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_margin_of_the_simplex_is_the_largest(num_classes: int) -> None:
    corners = 3 * simplex_etf(num_classes, num_classes + 2)
    assert one_vs_rest_margin(corners) == pytest.approx(num_classes / (num_classes - 1), rel=ROUNDING)


def test_margin_of_polygon_and_cross_polytope() -> None:
    angles = 2 * math.pi * torch.arange(7, dtype=torch.float64) / 7
    polygon = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert one_vs_rest_margin(polygon) == pytest.approx(1 - math.cos(2 * math.pi / 7), rel=ROUNDING)
    assert one_vs_rest_margin(torch.cat([torch.eye(4), -torch.eye(4)])) == pytest.approx(1, rel=ROUNDING)


def test_margin_is_zero_within_the_hull_and_undefined_at_zero() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert one_vs_rest_margin(vectors) == pytest.approx(0, abs=ROUNDING)
    assert math.isnan(one_vs_rest_margin(torch.tensor([[1.0, 0.0], [0.0, 0.0]])))


@pytest.mark.slow
def test_margin_equals_a_search_over_convex_combinations() -> None:
    vectors = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    units = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()

    def distance(c: int) -> float:
        others = np.delete(units, c, axis=0)

        def squared(free: np.ndarray) -> float:
            shares = np.exp(free - free.max())
            return float(((shares / shares.sum()) @ others - units[c]) @ ((shares / shares.sum()) @ others - units[c]))

        starts = np.random.default_rng(0).normal(size=(4, 5))
        return min(minimize(squared, start, options={"gtol": 1e-12}).fun for start in starts) ** 0.5

    # The search reaches a face of the hull only in the limit of infinite exponents.
    assert one_vs_rest_margin(vectors) == pytest.approx(min(distance(c) for c in range(6)), abs=1e-3)
