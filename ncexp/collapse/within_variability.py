"""NC1 by rank: tr(Σ_W Σ_B^†) without a P×P pseudo-inverse or a cut-off; and the effective rank of a spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ncexp.collapse.class_statistics import ClassStatistics
from ncexp.collapse.determined_range import ROUND_OFF, means_rounding


@dataclass(frozen=True)
class BetweenTrace:
    """tr(Σ_W Σ_B^†) and the rank it rests on."""

    full: torch.Tensor
    """On rank min(C − 1, P'); nan where the class means span fewer directions than that."""
    on_range: torch.Tensor
    """On the directions that the class means do span; nan where they span none."""
    rank: torch.Tensor
    """How many those are."""


def within_between_trace(statistics: ClassStatistics) -> BetweenTrace:
    """tr(Σ_W Σ_B^†), with the rank of Σ_B = A Aᵀ taken as min(C − 1, P') exactly (PHD20's NC1 is this over C).

    A = M̄ diag(√π) is P×C and A√π = 0 always. Reflecting √π onto the last axis makes that null direction a column, which
    is dropped; what is left, P×(C − 1), has the same other singular values s_j and left singular vectors u_j, and
    tr(Σ_W Σ_B^†) = Σ_j u_jᵀ Σ_W u_j / s_j² over all of them. P' counts the features that are not constant over all
    examples to their rounding, since a constant one belongs to neither Σ_W nor Σ_B.

    A direction counts where s_j is above the rounding of the class means: their rounding E adds to A no more than
    ‖E diag(√π)‖_F <= ‖ρ‖ (`means_rounding`), and moves no singular value by more than that (Weyl). Behind a linear
    bottleneck of k < C − 1 units that leaves k, though rounding fills all of them. No cut-off is relative to s_1.
    """
    frequencies = statistics.frequencies
    weighted_means = frequencies.sqrt()[:, None] * statistics.centered_class_means
    spread = (statistics.within_class_covariance.diagonal() + weighted_means.square().sum(0)).sqrt()
    constant = max(statistics.num_examples * ROUND_OFF, statistics.feature_eps) * statistics.class_means.abs().amax(0)
    live = spread > constant
    factor = without_null_direction(weighted_means[:, live], frequencies.sqrt())
    if factor.shape[0] > factor.shape[1]:
        factor = torch.linalg.qr(factor, mode="r").R  # the left singular vectors are not needed
    _, scales, directions = torch.linalg.svd(factor, full_matrices=False)
    within = statistics.within_class_covariance[live][:, live]
    shares = ((directions @ within) * directions).sum(1) / scales.square()
    certain = scales > torch.linalg.vector_norm(means_rounding(statistics)[live])
    on_range = torch.where(certain, shares, 0.0).sum()
    return BetweenTrace(
        full=torch.where(certain.all() & certain.any(), shares.sum(), torch.nan),
        on_range=torch.where(certain.any(), on_range, torch.nan),
        rank=certain.sum(),
    )


def without_null_direction(rows: torch.Tensor, null: torch.Tensor) -> torch.Tensor:
    """(C − 1, P) rows with the singular values and right singular vectors of `rows` (C, P), where nullᵀ rows = 0.

    H = I − 2vvᵀ/‖v‖² with v = null + e_last maps the unit vector `null` to −e_last (entries of null are positive, so v
    does not cancel); the last row of H rows is then 0.
    """
    reflector = null.clone()
    reflector[-1] += 1
    image = rows - torch.outer(reflector, 2 / reflector.square().sum() * (reflector @ rows))
    return image[:-1]


def with_null_direction(rows: torch.Tensor, null: torch.Tensor) -> torch.Tensor:
    """(C, k) rows with nullᵀ rows = 0, of which `without_null_direction` makes those given, (C − 1, k)."""
    reflector = null.clone()
    reflector[-1] += 1
    rows = torch.nn.functional.pad(rows, (0, 0, 0, 1))
    return rows - torch.outer(reflector, 2 / reflector.square().sum() * (reflector @ rows))


def effective_rank(scales: torch.Tensor) -> torch.Tensor:
    """exp(−Σ p_j log p_j), p_j = σ_j/Σσ, of scales σ_j >= 0 (Roy & Vetterli 2007); nan where all are 0."""
    shares = scales / scales.sum()
    return torch.special.entr(shares).sum().exp()
