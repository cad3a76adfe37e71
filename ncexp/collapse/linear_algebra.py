"""Factors of matrices whose rows or columns differ in size by many orders, of matrices with a known null direction."""

from __future__ import annotations

import torch
from torch import Tensor

ROUND_OFF = torch.finfo(torch.float64).eps
# s_j/s_1 from which on the usual singular value decomposition keeps 12 digits of s_j, and 10 digits of the least loss,
# whose error is the square of the layer's.
EVERY_DIGIT, DIGITS_OF_LOSS = 1e-4, 1e-10


def ordered_cholesky(covariance: Tensor, signal: Tensor) -> tuple[Tensor, Tensor] | None:
    """The order of the units, and the triangle L with L Lᵀ = N = covariance[order][:, order]; None where that is not
    safely positive definite.

    signal: a square of each unit's class means, (P,). Units come in the order of signal over variance: row i of L⁻¹ M̄
    holds those before i, times their correlation with i, and one that has collapsed much deeper than i would bring
    more rounding than i has signal.
    """
    order = (signal / covariance.diagonal()).argsort()
    ordered = covariance[order][:, order]
    triangle, info = torch.linalg.cholesky_ex(ordered)
    # L_jj²/N_jj is the share of feature j's variance that the features before it do not explain: where rounding alone
    # could make it up, the covariance does not determine that direction.
    unexplained = triangle.diagonal().square() / ordered.diagonal()
    if bool(info) or not bool((unexplained > len(covariance) * ROUND_OFF).all()):
        return None
    return order, triangle


def graded_svd(matrix: Tensor, alike: float, least: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, Vᵀ, each s_j to its own rounding where rows and columns differ in size and in nothing else.

    The usual algorithms round every s_j at ε s_1, and a layer is off by ε s_1/s_j. Where an s_j of at least least · s_1
    is below alike · s_1, Jacobi's method is taken (LAPACK's gejsv, on the CPU), whose rounding is that of rows and
    columns of one size (Demmel & Veselić 1992, "Jacobi's method is more accurate than QR").
    """
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    if not bool(((sizes >= least * sizes[:1]) & (sizes < alike * sizes[:1])).any()):
        return left, sizes, right
    from scipy.linalg.lapack import dgejsv  # seldom needed, and slow to import

    wide = matrix.shape[0] < matrix.shape[1]
    # joba "F": rows, or columns, of any size; jobu and jobv: n columns of U and V.
    scaled, ours, others, work, _, info = dgejsv((matrix.T if wide else matrix).cpu().numpy(), 2, 0, 0)
    if info:  # no convergence in 30 sweeps
        return left, sizes, right
    sizes, ours, others = (torch.from_numpy(part).to(matrix) for part in (scaled * (work[0] / work[1]), ours, others))
    return (others, sizes, ours.T) if wide else (ours, sizes, others.T)


def without_null_direction(rows: Tensor, null: Tensor) -> Tensor:
    """(C − 1, P) rows with the singular values and right singular vectors of `rows` (C, P), where nullᵀ rows = 0.

    H = I − 2vvᵀ/‖v‖² with v = null + e_last maps the unit vector `null` to −e_last (entries of null are positive, so v
    does not cancel); the last row of H rows is then 0.
    """
    reflector = null.clone()
    reflector[-1] += 1
    image = torch.outer(reflector, 2 / reflector.square().sum() * (reflector @ rows))
    return torch.sub(rows, image, out=image)[:-1]


def with_null_direction(rows: Tensor, null: Tensor) -> Tensor:
    """(C, k) rows with nullᵀ rows = 0, of which `without_null_direction` makes those given, (C − 1, k)."""
    reflector = null.clone()
    reflector[-1] += 1
    rows = torch.nn.functional.pad(rows, (0, 0, 0, 1))
    return rows.sub_(torch.outer(reflector, 2 / reflector.square().sum() * (reflector @ rows)))


def effective_rank(scales: Tensor) -> Tensor:
    """exp(−Σ p_j log p_j), p_j = σ_j/Σσ, of scales σ_j >= 0 (Roy & Vetterli 2007); nan where all are 0."""
    shares = scales / scales.sum()
    return torch.special.entr(shares).sum().exp()
