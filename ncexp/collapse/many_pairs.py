"""The statistics over all pairs of very many classes: those of pairwise.py, in tiles that stay in the cache.

At a vocabulary's size (50,000 classes, 1.25·10⁹ pairs) fresh memory for every intermediate array costs more than the
product U Uᵀ. Here a tile's arrays are made once and written over, log ‖u − u'‖⁻¹ = −½ (log 2 + log(1 − cos)) takes one
logarithm and no root, and a variance is Σx² − (Σx)²/n of x about a number near its mean, where that does not cancel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ncexp.collapse.pairwise import CLOSE, RunningMoments, close_gaps

# Rows and columns of a tile: its arrays of float64 take 1 MiB each.
_HEIGHT, _WIDTH = 256, 512
# Below this share of Σx², Σx² − (Σx)²/n would lose more than three digits.
_CANCELS = 1e-3


@dataclass(frozen=True, eq=False)
class PairSums:
    """Of all unordered pairs of C classes.

    gaps: 1 − cos, its moments; excess: Σ |cos + 1/(C − 1)|; distances: log(1 − cos), its moments; ratios:
    Σ (v_c + v_c')/‖x_c − x_c'‖², infinite where two coincide. The last two are of class means alone.
    """

    gaps: RunningMoments
    excess: Tensor
    distances: RunningMoments
    ratios: Tensor


def pair_sums(units: Tensor, norms: Tensor, variances: Tensor | None, rounding: float) -> PairSums:
    """The sums over all pairs of the vectors norms · units, each known to `rounding`; memory O(C P).

    units (C, P) of norm 1 or 0, norms (C,); variances v_c (C,), None for what is no class mean.
    """
    ideal, zero = len(units) / (len(units) - 1), units.new_zeros(())
    sums = PairSums(RunningMoments(), zero.clone(), RunningMoments(), zero.clone())
    work = units.new_empty(2, _HEIGHT * _WIDTH)
    angles = rounding / norms  # of the direction of each
    widest = 2 * float(angles.max()) ** 2
    for rows, columns, gaps in _tiles(units):
        first, second = (part[: gaps.numel()].view(gaps.shape) for part in work)
        _add(sums.gaps, torch.sub(gaps, ideal, out=first), ideal)
        sums.excess.add_(first.abs_().sum())
        if variances is None:
            continue
        # ‖x − x'‖² = (‖x‖ − ‖x'‖)² + 2 ‖x‖ ‖x'‖ (1 − cos).
        torch.sub(norms[rows], norms[columns], out=first).square_()
        squares = first.addcmul_(torch.mul(norms[rows], norms[columns], out=second), gaps, value=2)
        if bool(squares.amin() <= 2 * rounding**2):
            squares.masked_fill_(squares <= 2 * rounding**2, 0.0)  # the means coincide
        sums.ratios.add_(torch.add(variances[rows], variances[columns], out=second).div_(squares).sum())
        if float(gaps.amin()) <= widest:  # u and u' agree to their rounding
            gaps.masked_fill_(gaps <= (angles[rows] + angles[columns]).square_().div_(2), 0.0)
        _add(sums.distances, torch.log(gaps, out=second), 0.0)
    return sums


def _add(moments: RunningMoments, values: Tensor, shift: float) -> None:
    """Takes in values + shift; the values are near 0."""
    flat = values.flatten()
    count, squares, mean = flat.numel(), torch.dot(flat, flat), flat.mean()
    spread = squares / count - mean.square()
    if not bool(spread > _CANCELS * squares / count):
        spread, mean = torch.var_mean(flat, correction=0)
    moments.add_moments(count, mean + shift, spread)


def _tiles(units: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(rows, columns, 1 − cos), the numbers of both classes of each pair, broadcast to the shape of the last.

    The last is written over at the next tile; of a tile about the diagonal it has each pair once, (k,).
    """
    num_classes = len(units)
    memory, one = units.new_empty(_HEIGHT * _WIDTH), units.new_ones(())
    for start in range(0, num_classes, _HEIGHT):
        stop = min(start + _HEIGHT, num_classes)
        places = torch.arange(num_classes, device=units.device)
        left = units[start:stop]
        square = close_gaps(left, left, torch.addmm(one, left, left.T, alpha=-1))
        above = torch.triu_indices(stop - start, stop - start, 1, device=units.device)
        if above.shape[1]:
            yield start + above[0], start + above[1], square[above[0], above[1]]
        for begin in range(stop, num_classes, _WIDTH):
            right = units[begin : begin + _WIDTH]
            tile = memory[: len(left) * len(right)].view(len(left), len(right))
            torch.addmm(one, left, right.T, alpha=-1, out=tile)
            if bool(tile.amin() < CLOSE):
                close_gaps(left, right, tile)
            yield places[start:stop, None], places[None, begin : begin + len(right)], tile


def uniformity(distances: RunningMoments) -> tuple[Tensor, Tensor]:
    """Mean and variance of log ‖u − u'‖⁻¹ from the moments of log(1 − cos)."""
    return -(torch.as_tensor(distances.mean) + math.log(2)) / 2, distances.variance / 4
