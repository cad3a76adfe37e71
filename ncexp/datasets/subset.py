"""Which examples a split holds: the seeded, balanced choice of the paper."""

from __future__ import annotations

import torch
from torch import Tensor


def balanced_split(labels: Tensor, num_classes: int, examples_per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of a balanced subset, and of the rest; both ascending.

    The rule: one permutation of all examples is drawn from `seed`; of every class the first `examples_per_class` in
    that order are chosen. So a smaller subset of the same seed is contained in a larger one.

    Raises ValueError where a class has fewer examples than asked for (its label and count are named).
    """
    counts = torch.bincount(labels, minlength=num_classes)
    if int(counts.min()) < examples_per_class:
        label = int(counts.argmin())
        raise ValueError(
            f"examples_per_class: expected at most {int(counts.min())} (class {label} has no more), "
            f"got {examples_per_class}. Lower dataset.examples_per_class."
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[torch.argsort(labels[order], stable=True)]
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    chosen = rank < examples_per_class
    return by_class[chosen].sort().values, by_class[~chosen].sort().values
