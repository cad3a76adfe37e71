"""Free features behind layers with ReLU between: deep neural collapse, and a solution of lower rank that beats it.

F = (s/2n) Σ_i ‖W_k σ(W_{k−1} … σ(W_1 h_i)) − e_{c(i)}‖² + ½ λ_H ‖H‖² + ½ Σ_j λ_j ‖W_j‖², σ = ReLU, no bias: the deep
unconstrained features model of Súkeník, Lampert & Mondelli 2024 (arXiv 2405.14468), whose abstract states that deep
neural collapse is not optimal beyond two layers or two classes, and that solutions of lower rank are better. No theorem
says which solution is the least. Both constructions here are derived, not taken from the paper's text; their losses
bound the minimum from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch

from ncexp.collapse.deep_minimum import DeepMinimum, _check, _geometric_mean, _least


def deep_collapse(
    class_sizes: Sequence[int], num_features: int, decays: Sequence[float], scale: float = 1.0
) -> DeepMinimum:
    """Deep neural collapse: in every layer features are class means, orthogonal to each other, and not negative.

    H and all W_j are diagonal in the classes, so ReLU changes nothing, and the values are those of linear layers
    without bias (`deep_minimum`), their global minimum: no solution that ReLU leaves alone is better.

    Args:
        class_sizes: n_c, one each, C in all; num_features: P >= C.
        decays: λ_H, λ_1, ..., λ_k; scale: s.

    Raises:
        ValueError: fewer features than classes; otherwise as `deep_minimum`.
    """
    count = len(class_sizes)
    labels = torch.eye(count, dtype=torch.float64).repeat_interleave(torch.tensor(class_sizes), 0)
    _check(labels, num_features, decays, None, scale)
    _check_width(num_features, count)
    mean, n = _geometric_mean(decays), len(labels)
    found = [_least(size**0.5, scale / n, mean, len(decays)) for size in class_sizes]
    scales = labels.new_tensor([z for z, _ in found])
    first, *inner, last = ((mean / one) ** 0.5 * scales ** (1 / len(decays)) for one in decays)
    each = labels / labels.sum(0).sqrt()  # the right singular vectors
    factors = [each * first, *map(torch.diag, inner), torch.diag(last)]
    return DeepMinimum(
        sum(value for _, value in found), scales.sort(descending=True).values, _padded(factors, num_features), None
    )


def triangular_graph_solution(
    vertices: int, class_size: int, num_features: int, decays: Sequence[float], scale: float = 1.0
) -> DeepMinimum:
    """A solution whose layers but the last two have rank r for C = r (r − 1)/2 classes: the edges of a complete graph.

    Class {i, j} has the features e_i + e_j (columns of the incidence matrix B, r×C) in layers 1 to k − 2: not negative,
    so that ReLU changes nothing. Edges share 2, 1 or 0 ends, which is BᵀB, and Bᵀ(I − ¼ 11ᵀ)B = BᵀB − 11ᵀ has 1 on the
    diagonal, 0 where they share one, −1 elsewhere: its ReLU is the identity. So W_{k−1} = Bᵀ(I − ¼ 11ᵀ), W_k = I, the
    layers between are I on r dimensions, and W_1 Hᵀ = B in balanced factors. The graph of edges is the triangular
    graph, which is strongly regular. Each factor F_j has a scalar besides; of a product τ of all scalars the least
    penalty is

        (L/2) Λ τ^{2/L},    Λ = (Π_j λ_j ‖F_j‖²)^{1/L},    L = k + 1,

    and the outputs are τ e_c: what is left is (s/2)(τ − 1)² + (L/2) Λ τ^{2/L}, as of one mode. Deep collapse has C in
    the place of each ‖F_j‖² (N C of the features): for large k it loses, as r < C.

    Args:
        vertices: r >= 4; class_size: N of each class; num_features: P >= C.
        decays: λ_H, λ_1, ..., λ_k, k >= 3; scale: s.

    Raises:
        ValueError: numbers outside these bounds.
    """
    if vertices < 4 or len(decays) < 4:
        raise ValueError(
            "triangular_graph_solution: expected at least 4 vertices and 3 layers, λ_H and three decays, got "
            f"{vertices} vertices, {len(decays)} decays. With fewer there is no layer of lower rank."
        )
    incidence = torch.zeros(vertices, vertices * (vertices - 1) // 2, dtype=torch.float64)
    for edge, ends in enumerate(combinations(range(vertices), 2)):
        incidence[list(ends), edge] = 1.0
    count = incidence.shape[1]
    labels = torch.eye(count, dtype=torch.float64).repeat_interleave(class_size, 0)
    _check(labels, num_features, decays, None, scale)
    _check_width(num_features, count)
    left, sizes, right = torch.linalg.svd(incidence, full_matrices=False)
    identity = torch.eye(vertices, dtype=torch.float64)
    shapes = [labels @ right.T * sizes.sqrt(), left * sizes.sqrt(), *[identity] * (len(decays) - 4)]
    shapes += [incidence.T @ (identity - 0.25), torch.eye(count, dtype=torch.float64)]
    costs = [decay * float(shape.square().sum()) for decay, shape in zip(decays, shapes, strict=True)]
    mean = _geometric_mean(costs)
    product, loss = _least(1.0, scale, mean, len(costs))
    # λ_j ‖F_j‖² w_j² alike for all j, and Π w_j = τ.
    weights = [(mean / cost) ** 0.5 * product ** (1 / len(costs)) for cost in costs]
    factors = [weight * shape for weight, shape in zip(weights, shapes, strict=True)]
    scales = torch.full((count,), product * class_size**0.5, dtype=torch.float64)
    return DeepMinimum(loss, scales, _padded(factors, num_features), None)


def _padded(factors: list[torch.Tensor], width: int) -> list[torch.Tensor]:
    """H (n, P), W_1, ..., W_{k−1} (P, P), W_k (m, P): with zeros."""
    table, *inner, last = factors
    pad = torch.nn.functional.pad
    square = [pad(one, (0, width - one.shape[1], 0, width - one.shape[0])) for one in inner]
    return [pad(table, (0, width - table.shape[1])), *square, pad(last, (0, width - last.shape[1]))]


def _check_width(num_features: int, count: int) -> None:
    if num_features < count:
        raise ValueError(
            f"num_features: expected at least C = {count}, got {num_features}. Class means that are orthogonal and not "
            "negative need as many."
        )
