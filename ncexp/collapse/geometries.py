"""Where class means and classifier rows go: the simplex; for unequal classes the geometry of the labels; margins.

The geometry of the labels. For unconstrained features H (P, n), P >= C − 1, decayed as W is, with a decay λ that
vanishes, the logits without their bias go to a multiple of a centred label matrix Z (C, n), and the decay, which over
all factors Z = W H is at least λ ‖Z‖_* (the nuclear norm), decides how Z splits. With its singular value decomposition
Z = V Λ Uᵀ (V: C×r, U: n×r),

    W = V Λ^½ Rᵀ,  H = R Λ^½ Uᵀ,  R any rotation,  so  W Wᵀ = V Λ Vᵀ  and  HᵀH = U Λ Uᵀ,  each up to a factor.

Y (C, n) is the one-hot label matrix, with n_c = n π_c examples of class c. Which Z it is depends on the bias:

- Cross-entropy, without a bias or with one that decays as W and H do: Z = (I − 11ᵀ/C) Y, the simplex-encoded labels
  (SELI, Thrampoulidis et al. 2022): the least ‖Z‖_* with all margins >= 1. Scaled up with the logits, the bias would
  cost its square, W and H only their product: it is left behind.
- A bias that does not decay, cross-entropy or MSE: Z = Y (I − 11ᵀ/n), columns e_c − π. The bias takes what is common to
  all examples. For the MSE at any λ, ½ Ave ‖Z − Y (I − 11ᵀ/n)‖² + λ ‖Z‖_* is a soft threshold of singular values.
- MSE without a bias: Z = Y, orthogonal class means of lengths n_c^-¼ (Dang et al. 2023).

For classes of equal size the first two are one, and the geometry is the simplex ETF. Tests prove that both Z are the
least, by their dual certificates and by minimising over W, H (and b) from a random start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LabelGeometry:
    """Gram matrices (C, C), float64, each up to a positive factor.

    means: of the class means; their own sum is 0 for SELI, their sum over examples with a free bias. classifier: W Wᵀ.
    """

    means: Tensor
    classifier: Tensor


def simplex_etf(num_classes: int, num_features: int) -> Tensor:
    """C unit vectors that sum to zero and make equal, maximal angles: ⟨m_c, m_c'⟩ = −1/(C−1)   (PHD20, NC2).

    √(C/(C−1)) (I − 11ᵀ/C) in the coordinates of an orthonormal basis of its range, zeros beyond them.

    Args:
        num_classes: C >= 2.
        num_features: P >= C − 1, the dimension of a simplex with C corners.

    Returns:
        M̄ᵀ, (C, P) float64: row c is corner c.

    Raises:
        ValueError: C < 2, or P < C − 1.

    >>> simplex_etf(2, 3).round().tolist()
    [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]
    """
    if num_classes < 2:
        raise ValueError(f"num_classes: expected at least 2, got {num_classes}. A frame of one vector has no angles.")
    if num_features < num_classes - 1:
        raise ValueError(
            f"num_features: expected at least C − 1 = {num_classes - 1}, got {num_features}. "
            "No simplex of C corners fits in fewer dimensions."
        )
    # Corner c against the mean of the corners after it (Helmert's basis): coordinate k of corner c is
    # √((C−k−1)/(C−k)) where c = k, −1/√((C−k)(C−k−1)) where c > k, and 0 before; rows of I − 11ᵀ/C in that basis.
    remaining = torch.arange(num_classes, 1, -1, dtype=torch.float64)
    own = ((remaining - 1) / remaining).sqrt()
    later = -1 / (remaining * (remaining - 1)).sqrt()
    corners = torch.zeros(num_classes, num_features, dtype=torch.float64)
    corners[:, : num_classes - 1] = torch.tril(later.expand(num_classes, -1), diagonal=-1)
    corners[: num_classes - 1, : num_classes - 1] += torch.diag(own)
    return corners * (num_classes / (num_classes - 1)) ** 0.5


def seli_geometry(counts: Tensor) -> LabelGeometry:
    """Z = (I − 11ᵀ/C) Y: cross-entropy without a bias, or with one that decays (Thrampoulidis et al. 2022).

    counts: n_c, (C,), each at least 1, C >= 2; ValueError for others.
    """
    return _geometry(counts, free_bias=False)


def free_bias_geometry(counts: Tensor) -> LabelGeometry:
    """Z = Y (I − 11ᵀ/n): a bias that does not decay, MSE or cross-entropy. Arguments, errors as of `seli_geometry`."""
    return _geometry(counts, free_bias=True)


def gram_distance(gram: Tensor, target: Tensor) -> float:
    """‖G/‖G‖_F − T/‖T‖_F‖_F of two Gram matrices (C, C), from 0 to 2; nan where one of them is 0."""
    gram, target = (matrix.to(torch.float64) for matrix in (gram, target))
    return float(torch.linalg.matrix_norm(gram / gram.norm() - target / target.norm()))


def _geometry(counts: Tensor, free_bias: bool) -> LabelGeometry:
    """Of Z with columns z_c = e_c − π (free_bias) or e_c − 1/C, column c n_c times.

    Z Zᵀ = Σ_c n_c z_c z_cᵀ = V Λ² Vᵀ, so W Wᵀ = (Z Zᵀ)^½; and h of class c is Λ^-½ Vᵀ z_c, so the class means' Gram
    matrix has the entries z_cᵀ V Λ^-1 Vᵀ z_c'. The rank is C − 1: the entries of every column of either Z sum to 0.
    """
    if counts.ndim != 1 or len(counts) < 2 or bool((counts < 1).any()):
        raise ValueError(
            f"counts: expected (C,) numbers of examples, each at least 1, C >= 2, got {counts.tolist()}. Leave classes "
            "without examples out."
        )
    counts = counts.to(torch.float64).cpu()
    center = (counts / counts.sum())[:, None] if free_bias else 1 / len(counts)
    columns = torch.eye(len(counts), dtype=torch.float64) - center
    squares, vectors = torch.linalg.eigh((columns * counts) @ columns.T)
    scales, vectors = squares[1:].sqrt(), vectors[:, 1:]  # ascending: the first belongs to (1, ..., 1)
    features = (vectors / scales.sqrt()).T @ columns
    return LabelGeometry(means=features.T @ features, classifier=(vectors * scales) @ vectors.T)


def one_vs_rest_margin(vectors: Tensor) -> float:
    """min_c dist(u_c, conv{u_j : j ≠ c}) with u_c = v_c/‖v_c‖   (Jiang et al. 2023).

    Where C − 1 > P no simplex ETF fits, and normalised classifiers and class means go to a softmax code, the C unit
    vectors whose smallest one-vs-rest distance is largest: how far a class is from the convex hull of all others.
    C/(C − 1), the largest possible, for a simplex ETF (C − 1 <= P); at most 1 where P + 1 < C <= 2P; 1 − cos(2π/C) for
    the regular polygon, P = 2; 0 where a class lies in the hull of the others.

    Args:
        vectors: v_c, (C, P), C >= 2.

    Returns:
        A number from 0 to 2; nan where a v_c is 0. Work: C problems of non-negative least squares of size (P + 1, C).
    """
    lengths = torch.linalg.vector_norm(vectors.to(torch.float64), dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        return float("nan")
    units = (vectors.to(torch.float64) / lengths).cpu().numpy()
    return min(_distance_to_hull(np.delete(units, c, axis=0) - units[c]) for c in range(len(units)))


def _distance_to_hull(points: np.ndarray) -> float:
    """The distance of the origin to the convex hull of the rows of `points` (m, P).

    min over x >= 0 of ‖Pᵀx‖² + (1ᵀx − 1)². Write x = t α with Σα = 1: for a given α the best t leaves
    ‖Pᵀα‖²/(1 + ‖Pᵀα‖²), which grows with ‖Pᵀα‖. So the α of the minimum is that of the nearest point.
    """
    from scipy.optimize import nnls  # not with the package: it takes longer to import than all of it

    system = np.vstack([points.T, np.ones(len(points))])
    target = np.zeros(len(system))
    target[-1] = 1.0
    weights, _ = nnls(system, target)
    return float(np.linalg.norm(points.T @ (weights / weights.sum())))
