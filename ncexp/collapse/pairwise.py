"""Statistics over all pairs of classes, block by block: never a C×C×P array, nor a C×C one that has to be kept.

One blocked product U Uᵀ of unit vectors serves all of them, over unordered pairs: C² P flops and a few numbers per
pair, in memory of one block of rows against all columns. What the blocks hold is 1 − cos, exact also for vectors that
nearly coincide: those pairs alone are computed again from the difference of their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

# Pairs in one block (32 MiB of float64 per intermediate array).
_BLOCK_PAIRS = 2**22
# Below this 1 − cos, the rounding of the cosine (about 1e-16) would cost it more than 1e-12.
CLOSE = 1e-4


class RunningMoments:
    """Mean and population variance of values that come in pieces, merged pairwise (Chan)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: torch.Tensor | float = 0.0
        self._squares: torch.Tensor | float = 0.0

    def add(self, values: torch.Tensor) -> None:
        """Takes in a piece with at least one value."""
        variance, mean = torch.var_mean(values, correction=0)
        self.add_moments(values.numel(), mean, variance)

    def add_moments(self, count: int, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Takes in `count` values of this mean and population variance."""
        share = count / (self.count + count)
        step = mean - self.mean
        self._squares += count * variance + self.count * share * step**2
        self.mean += share * step
        self.count += count

    @property
    def variance(self) -> torch.Tensor:
        """Population variance (divided by the count) of all values."""
        return torch.as_tensor(self._squares / self.count)


@dataclass(frozen=True)
class PairBlock:
    """Unordered pairs (c, c') out of rows × columns, of which `keep` holds each pair once (None: all are)."""

    rows: slice
    columns: slice
    keep: torch.Tensor | None
    gaps: torch.Tensor
    """1 − cos(x_c, x_c'), (rows, columns)."""

    def select(self, values: torch.Tensor) -> torch.Tensor:
        """The values of the pairs, flat."""
        return values.flatten() if self.keep is None else values[self.keep]

    def squared_distances(self, norms: torch.Tensor) -> torch.Tensor:
        """‖x_c − x_c'‖² = (‖x_c‖ − ‖x_c'‖)² + 2 ‖x_c‖ ‖x_c'‖ (1 − cos): nothing cancels."""
        left, right = norms[self.rows, None], norms[None, self.columns]
        return (left - right).square_().addcmul_(left * right, self.gaps, value=2)


def pair_blocks(units: torch.Tensor) -> Iterator[PairBlock]:
    """All unordered pairs of rows of `units` (C, P), which are of norm 1 or exactly 0."""
    num_classes = len(units)
    height = max(1, min(num_classes, _BLOCK_PAIRS // num_classes))
    for start in range(0, num_classes, height):
        stop = min(start + height, num_classes)
        rows, beyond = slice(start, stop), slice(stop, num_classes)
        if stop - start > 1:
            square = _gaps(units[rows], units[rows])
            yield PairBlock(rows, rows, torch.ones_like(square, dtype=torch.bool).triu(1), square)
        if stop < num_classes:
            yield PairBlock(rows, beyond, None, _gaps(units[rows], units[beyond]))


def _gaps(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """1 − cos as ½‖u − u'‖² where it is small."""
    one = torch.ones((), dtype=left.dtype, device=left.device)
    return close_gaps(left, right, torch.addmm(one, left, right.T, alpha=-1))


def close_gaps(left: torch.Tensor, right: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
    """`gaps` 1 − cos of unit vectors, of which those that are small are computed again, in place."""
    for at in (gaps < CLOSE).nonzero().split(max(1, _BLOCK_PAIRS // left.shape[1])):
        gaps[at[:, 0], at[:, 1]] = (left[at[:, 0]] - right[at[:, 1]]).square().sum(1) / 2
    return gaps


def row_norms(vectors: torch.Tensor) -> torch.Tensor:
    """The norms (C,) of the rows of (C, P)."""
    # Divided by the largest entry first: its square may over- or underflow.
    largest = vectors.abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    return torch.linalg.vector_norm(vectors / largest, dim=1) * largest[:, 0]


def unit_rows(vectors: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Rows of (C, P) divided by their norms (C,); a row that is exactly 0 stays 0."""
    return vectors / torch.where(norms > 0, norms, 1.0)[:, None]
