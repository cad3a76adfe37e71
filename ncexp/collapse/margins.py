"""One-vs-rest margins: how far a class is from the convex hull of all others, for more classes than a simplex takes.

Jiang et al. 2023, generalized neural collapse: where C − 1 > P no simplex ETF fits, and normalised classifiers and
class means go to a softmax code, the C unit vectors whose smallest one-vs-rest distance is largest.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def one_vs_rest_margin(vectors: Tensor) -> float:
    """min_c dist(u_c, conv{u_j : j ≠ c}) with u_c = v_c/‖v_c‖   (Jiang et al. 2023).

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
