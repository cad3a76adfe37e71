"""Solutions of free features behind ReLU: their losses by the objective written out, and which of the two is lower."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ncexp.collapse import DeepMinimum, deep_collapse, deep_minimum, triangular_graph_solution

#: Float64, products of a few matrices of some tens of rows.
ROUNDING = 1e-12


def value(found: DeepMinimum, sizes: list[int], decays: list[float], scale: float) -> tuple[float, np.ndarray]:
    """F in NumPy, and the outputs (n, C)."""
    features, *weights = (one.numpy() for one in found.factors)
    targets = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    outputs = features
    for place, weight in enumerate(weights, 1):
        outputs = outputs @ weight.T
        outputs = np.where(outputs > 0, outputs, 0) if place < len(weights) else outputs
    squares = [(one**2).sum() for one in (features, *weights)]
    data = scale / (2 * len(targets)) * ((outputs - targets) ** 2).sum()
    return float(data + np.dot(decays, squares) / 2), outputs


def slope_along_scalars(found: DeepMinimum, sizes: list[int], decays: list[float], scale: float) -> float:
    """The largest |dF/d log w_j|, w_j a factor's scalar, by differences."""
    slopes = []
    for place in range(len(decays)):
        ends = []
        for step in (1e-5, -1e-5):
            factors = [one * (np.exp(step) if j == place else 1.0) for j, one in enumerate(found.factors)]
            ends.append(value(DeepMinimum(0.0, found.scales, factors, None), sizes, decays, scale)[0])
        slopes.append(abs(ends[0] - ends[1]) / 2e-5)
    return max(slopes)


@pytest.mark.parametrize(("sizes", "decays"), [([5, 2, 1], [0.01, 0.02, 0.015]), ([3, 3], [0.02, 0.01, 0.01, 0.03])])
def test_deep_collapse_is_that_of_linear_layers_and_not_negative(sizes: list[int], decays: list[float]) -> None:
    found = deep_collapse(sizes, 5, decays, 1.5)
    targets = torch.eye(len(sizes), dtype=torch.float64).repeat_interleave(torch.tensor(sizes), 0)
    linear = deep_minimum(targets, 5, decays, None, 1.5)
    assert found.loss == pytest.approx(linear.loss, rel=ROUNDING)
    assert torch.allclose(found.outputs, linear.outputs, rtol=0, atol=ROUNDING)
    assert torch.allclose(found.scales, linear.scales, rtol=0, atol=ROUNDING)
    assert all(bool((one >= 0).all()) for one in found.factors)
    assert value(found, sizes, decays, 1.5)[0] == pytest.approx(found.loss, rel=ROUNDING)


@pytest.mark.parametrize(("vertices", "layers"), [(4, 3), (4, 4), (5, 3), (6, 5)])
def test_triangular_graph_solution_has_its_loss_and_rank(vertices: int, layers: int) -> None:
    count, decays = vertices * (vertices - 1) // 2, [0.001 * (j + 1) for j in range(layers + 1)]
    found = triangular_graph_solution(vertices, 3, count + 2, decays, 0.7)
    loss, outputs = value(found, [3] * count, decays, 0.7)
    assert loss == pytest.approx(found.loss, rel=ROUNDING)
    product = outputs[0, 0]
    assert 0 < product < 1
    assert np.abs(outputs - product * np.repeat(np.eye(count), 3, axis=0)).max() < ROUNDING
    assert found.scales.tolist() == pytest.approx([product * 3**0.5] * count)
    assert slope_along_scalars(found, [3] * count, decays, 0.7) < 1e-8
    for inner in found.factors[1:-1]:
        assert int(torch.linalg.matrix_rank(inner)) == (3 if vertices == 4 and inner is found.factors[-2] else vertices)


def test_triangular_graph_beats_deep_collapse_from_four_layers_on() -> None:
    """Of equal decay of all factors, for 6, 10 and 15 classes; with three layers it does not."""
    for vertices in (4, 5, 6):
        count = vertices * (vertices - 1) // 2
        for layers, lower in [(3, False), (4, True), (6, True)]:
            decays = [1e-4] * (layers + 1)
            graph, collapse = (
                triangular_graph_solution(vertices, 1, count, decays),
                deep_collapse([1] * count, count, decays),
            )
            assert (graph.loss < collapse.loss) is lower


def test_rectified_solutions_refuse() -> None:
    for call, message in [
        (lambda: deep_collapse([2, 2, 2], 2, [0.1, 0.1]), "num_features: expected at least C = 3"),
        (lambda: deep_collapse([2, 2], 2, [0.1]), "decays: expected"),
        (lambda: triangular_graph_solution(3, 1, 9, [0.1] * 5), "at least 4 vertices and 3 layers"),
        (lambda: triangular_graph_solution(4, 1, 9, [0.1] * 3), "at least 4 vertices and 3 layers"),
        (lambda: triangular_graph_solution(4, 1, 5, [0.1] * 4), "num_features: expected at least C = 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
