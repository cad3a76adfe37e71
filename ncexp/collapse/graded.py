"""Factors of matrices whose rows or columns differ in size by many orders: units that collapsed to unlike depths."""

from __future__ import annotations

import torch

from ncexp.collapse.determined_range import ROUND_OFF

# s_j/s_1 from which on the usual singular value decomposition keeps 12 digits of s_j, and 10 digits of the least loss,
# whose error is the square of the layer's.
EVERY_DIGIT, DIGITS_OF_LOSS = 1e-4, 1e-10


def ordered_cholesky(covariance: torch.Tensor, signal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
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


def graded_svd(
    matrix: torch.Tensor, alike: float, least: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
