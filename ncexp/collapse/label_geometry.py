"""What takes the place of the simplex when classes are of unequal size: the geometry that the labels themselves have.

For unconstrained features H (P, n), P >= C − 1, decayed as W is, with a decay λ that vanishes, the logits without their
bias go to a multiple of a centred label matrix Z (C, n), and the decay, which over all factors Z = W H is at least
λ ‖Z‖_* (the nuclear norm), decides how Z splits. With its singular value decomposition Z = V Λ Uᵀ (V: C×r, U: n×r),

    W = V Λ^½ Rᵀ,  H = R Λ^½ Uᵀ,  R any rotation,  so  W Wᵀ = V Λ Vᵀ  and  HᵀH = U Λ Uᵀ,  each up to a factor.

Y (C, n) is the one-hot label matrix, with n_c = n π_c examples of class c. Which Z it is depends on the bias:

- Cross-entropy, without a bias or with one that decays as W and H do: Z = (I − 11ᵀ/C) Y, the simplex-encoded labels
  (SELI, Thrampoulidis et al. 2022): the least ‖Z‖_* with all margins >= 1. Scaled up with the logits, the bias would
  cost its square, W and H only their product: it is left behind.
- A bias that does not decay, cross-entropy or MSE: Z = Y (I − 11ᵀ/n), columns e_c − π. The bias takes what is common to
  all examples. For the MSE at any λ, ½ Ave ‖Z − Y (I − 11ᵀ/n)‖² + λ ‖Z‖_* is a soft threshold of singular values.
- MSE without a bias: Z = Y, orthogonal class means of lengths n_c^-¼ (Dang et al. 2023).

For classes of equal size the first two are one, and the geometry is the simplex ETF. That both Z are the least is shown
by their dual certificates, and by minimising over W, H (and b) from a random start, in tests/collapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LabelGeometry:
    """Gram matrices (C, C), float64, each up to a positive factor.

    means: of the class means; their own sum is 0 for SELI, their sum over examples with a free bias. classifier: W Wᵀ.
    """

    means: Tensor
    classifier: Tensor


def seli_geometry(counts: Tensor) -> LabelGeometry:
    """Z = (I − 11ᵀ/C) Y: cross-entropy without a bias, or with one that decays (Thrampoulidis et al. 2022).

    Args:
        counts: n_c, (C,), each at least 1, C >= 2.

    Raises:
        ValueError: other counts.
    """
    counts = _checked(counts)
    columns = torch.eye(len(counts), dtype=torch.float64) - 1 / len(counts)
    return _geometry(columns, counts)


def free_bias_geometry(counts: Tensor) -> LabelGeometry:
    """Z = Y (I − 11ᵀ/n): a bias that does not decay, MSE or cross-entropy. Arguments, errors as of `seli_geometry`."""
    counts = _checked(counts)
    columns = torch.eye(len(counts), dtype=torch.float64) - (counts / counts.sum())[:, None]
    return _geometry(columns, counts)


def gram_distance(gram: Tensor, target: Tensor) -> float:
    """‖G/‖G‖_F − T/‖T‖_F‖_F of two Gram matrices (C, C), from 0 to 2; nan where one of them is 0."""
    gram, target = (matrix.to(torch.float64) for matrix in (gram, target))
    return float(torch.linalg.matrix_norm(gram / gram.norm() - target / target.norm()))


def _geometry(columns: Tensor, counts: Tensor) -> LabelGeometry:
    """Of Z with columns z_c (C, C), column c n_c times.

    Z Zᵀ = Σ_c n_c z_c z_cᵀ = V Λ² Vᵀ, so W Wᵀ = (Z Zᵀ)^½; and h of class c is Λ^-½ Vᵀ z_c, so the class means' Gram
    matrix has the entries z_cᵀ V Λ^-1 Vᵀ z_c'. The rank is C − 1: the entries of every column of either Z sum to 0.
    """
    squares, vectors = torch.linalg.eigh((columns * counts) @ columns.T)
    scales, vectors = squares[1:].sqrt(), vectors[:, 1:]  # ascending: the first belongs to (1, ..., 1)
    features = (vectors / scales.sqrt()).T @ columns
    return LabelGeometry(means=features.T @ features, classifier=(vectors * scales) @ vectors.T)


def _checked(counts: Tensor) -> Tensor:
    if counts.ndim != 1 or len(counts) < 2 or bool((counts < 1).any()):
        raise ValueError(
            f"counts: expected (C,) numbers of examples, each at least 1, C >= 2, got {counts.tolist()}. Leave classes "
            "without examples out."
        )
    return counts.to(torch.float64).cpu()
