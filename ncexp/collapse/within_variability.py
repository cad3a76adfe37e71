"""NC1 by rank: tr(Σ_W Σ_B^†) without a P×P pseudo-inverse or a cut-off; and the effective rank of a spectrum."""

from __future__ import annotations

import torch

from ncexp.collapse.class_statistics import ClassStatistics

_ROUND_OFF = torch.finfo(torch.float64).eps


def within_between_trace(statistics: ClassStatistics) -> torch.Tensor:
    """tr(Σ_W Σ_B^†), with the rank of Σ_B = A Aᵀ taken as min(C − 1, P') exactly (PHD20's NC1 is this over C).

    A = M̄ diag(√π) is P×C and A√π = 0 always. Reflecting √π onto the last axis makes that null direction a column, which
    is dropped; what is left, P×(C − 1), has the same other singular values s_j and left singular vectors u_j, and
    tr(Σ_W Σ_B^†) = Σ_j u_jᵀ Σ_W u_j / s_j² over all of them. P' counts the features that are not constant over all
    examples, since a constant one belongs to neither Σ_W nor Σ_B.

    Returns:
        A float64 scalar; nan where the class means span fewer than min(C − 1, P') directions, that is where the
        smallest s_j is not above the rounding of the means themselves.
    """
    frequencies = statistics.frequencies
    weighted_means = frequencies.sqrt()[:, None] * statistics.centered_class_means
    means_rounding = _ROUND_OFF * statistics.class_means.abs().amax(0)
    spread = (statistics.within_class_covariance.diagonal() + weighted_means.square().sum(0)).sqrt()
    live = spread > statistics.num_examples * means_rounding
    factor = without_null_direction(weighted_means[:, live], frequencies.sqrt())
    size = max(factor.shape, default=0)
    if factor.shape[0] > factor.shape[1]:
        factor = torch.linalg.qr(factor, mode="r").R  # the left singular vectors are not needed
    _, scales, directions = torch.linalg.svd(factor, full_matrices=False)
    within = statistics.within_class_covariance[live][:, live]
    variances = ((directions @ within) * directions).sum(1)
    # Rounding of the class means moves singular values by no more than this.
    floor = size * torch.linalg.vector_norm(means_rounding)
    certain = (scales > floor).all() & (len(scales) > 0)
    return torch.where(certain, (variances / scales.square()).sum(), torch.nan)


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
