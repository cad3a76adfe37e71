"""The simplex equiangular tight frame: where class means and classifier rows go in neural collapse."""

from __future__ import annotations

import torch


def simplex_etf(num_classes: int, num_features: int) -> torch.Tensor:
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
