"""The directions that a matrix of second moments determines, and its inverse on them.

The principle of determined_range.py, for one matrix G without classes: a linear map w ↦ wᵀh whose second moment is no
larger than its own rounding is left out; nothing else is, whatever the scales of the units. With r_i² the square of a
unit's rounding, R the correlation form of G, and ε = 2⁻⁵²,

    ρ_i² = r_i² + 100 P ε λ_max(R) G_ii

is what rounding of the units, and of the sums, can make of a second moment of 0, with a factor of 100 so that what is
kept is known to 1 %. Left out are the eigenvectors of diag(1/ρ) G diag(1/ρ) with eigenvalue of at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.linear_algebra import ROUND_OFF


@dataclass(frozen=True, eq=False)
class KnownDirections:
    """k of the P directions of G, in factored form."""

    root: Tensor
    """(P, k): root rootᵀ = G less what is left out."""
    inverse_root: Tensor
    """(P, k): inverse_root inverse_rootᵀ = G⁺ on the directions that are kept; inverse_rootᵀ root = I."""
    left_out: Tensor
    """(P, P − k): linear maps w whose second moment wᵀGw is at most 1, rounding; in units of 1/ρ."""
    rounding_root: Tensor
    """(P, P − k): what w reads of them is wᵀ rounding_root, with second moments of at most 1."""

    @property
    def rank(self) -> int:
        """k."""
        return self.root.shape[1]


def known_directions(moments: Tensor, rounding: Tensor) -> KnownDirections:
    """Splits G (P, P), symmetric and finite, by the squares r_i² of the units' rounding, (P,)."""
    variances = moments.diagonal().clamp(min=0)
    deviations = torch.where(variances > 0, variances, 1.0).sqrt()
    largest = torch.linalg.eigvalsh(moments / deviations / deviations[:, None])[-1].clamp(min=0)
    scales = (rounding + 100 * len(moments) * ROUND_OFF * largest * variances).sqrt()
    scales = torch.where(scales > 0, scales, 1.0)
    sizes, vectors = torch.linalg.eigh(moments / scales / scales[:, None])
    kept = sizes > 1
    roots, scales = sizes[kept].sqrt(), scales[:, None]
    return KnownDirections(
        root=scales * vectors[:, kept] * roots,
        inverse_root=vectors[:, kept] / roots / scales,
        left_out=vectors[:, ~kept] / scales,
        rounding_root=scales * vectors[:, ~kept],
    )


def units_rounding(eps: float, means: Tensor, variances: Tensor) -> Tensor:
    """r_i² = κ ε_f² (C_ii + h̄_i²), (P,), of units that came in a dtype of precision ε_f.

    κ = P where rounding may be common to all units, as when it happens on the way; 1 for half precision, which is
    rounded at the end of a float32 computation, each unit for itself.
    """
    shared = len(means) if eps <= torch.finfo(torch.float32).eps else 1
    return shared * eps**2 * (variances.clamp(min=0) + means.square())
