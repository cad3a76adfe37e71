"""Statistics over all pairs of classes, block by block: never a C×C×P array, nor a C×C one that has to be kept.

One blocked product U Uᵀ of unit vectors serves all of them, over unordered pairs, C² P flops in all; memory is one
block of rows against all columns. Values are exact also for pairs that nearly coincide, where 1 − cos cancels: those
pairs alone are computed again from the difference of their vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

# Pairs in one block (32 MiB of float64 per intermediate array).
_BLOCK_PAIRS = 2**22
# Below this 1 − cos, the rounding of the cosine (about 1e-16) would cost the squared distance more than 1e-12.
_CLOSE = 1e-4


class RunningMoments:
    """Mean and population variance of values that come in pieces, merged pairwise (Chan)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: torch.Tensor | float = 0.0
        self._squares: torch.Tensor | float = 0.0

    def add(self, values: torch.Tensor) -> None:
        """Takes in a piece with at least one value."""
        variance, mean = torch.var_mean(values, correction=0)
        share = values.numel() / (self.count + values.numel())
        step = mean - self.mean
        self._squares += values.numel() * variance + self.count * share * step**2
        self.mean += share * step
        self.count += values.numel()

    @property
    def variance(self) -> torch.Tensor:
        """Population variance (divided by the count) of all values."""
        return torch.as_tensor(self._squares / self.count)


@dataclass(frozen=True)
class Pair:
    """A block of unordered pairs (c, c'): rows × columns, of which `keep` holds each pair once (None: all)."""

    rows: slice
    columns: slice
    cosines: torch.Tensor
    keep: torch.Tensor | None

    def select(self, values: torch.Tensor) -> torch.Tensor:
        """The values of the pairs, flat."""
        return values.flatten() if self.keep is None else values[self.keep]


def pair_blocks(units: torch.Tensor) -> Iterator[Pair]:
    """All unordered pairs of rows of `units` (C, P), with their inner products."""
    num_classes = len(units)
    height = max(1, min(num_classes, _BLOCK_PAIRS // num_classes))
    for start in range(0, num_classes, height):
        stop = min(start + height, num_classes)
        rows = slice(start, stop)
        square = units[rows] @ units[rows].T
        if stop - start > 1:
            yield Pair(rows, rows, square, torch.ones_like(square, dtype=torch.bool).triu(1))
        if stop < num_classes:
            yield Pair(rows, slice(stop, num_classes), units[rows] @ units[stop:].T, None)


def unit_rows(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of (C, P) divided by their norms, and the norms (C,); a row that is exactly 0 stays 0."""
    norms = torch.linalg.vector_norm(vectors, dim=1)
    return vectors / torch.where(norms > 0, norms, 1.0)[:, None], norms


def squared_distances(pair: Pair, vectors: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """‖x_c − x_c'‖² for the pairs of a block, free of cancellation; `squares` are ‖x_c‖² (C,)."""
    left, right = squares[pair.rows, None], squares[None, pair.columns]
    distances = left + right - 2 * (left * right).sqrt() * pair.cosines
    close = (pair.cosines > 1 - _CLOSE).nonzero()
    for at in close.split(max(1, _BLOCK_PAIRS // vectors.shape[1])):
        difference = vectors[pair.rows][at[:, 0]] - vectors[pair.columns][at[:, 1]]
        distances[at[:, 0], at[:, 1]] = difference.square().sum(1)
    return distances
