"""Which examples a set holds, and how many of the training labels are wrong: seeded rules, written down."""

from __future__ import annotations

import hashlib
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

#: Largest training class over smallest.
Imbalance = Annotated[float, Field(ge=1, allow_inf_nan=False)]


def choose(labels: Tensor, counts: list[int], seed: int, option: str = "examples_per_class") -> Tensor:
    """Indices, ascending, of counts[c] examples of every class c.

    The rule: one permutation of all examples is drawn from `seed`; of every class the first counts[c] in that order
    are chosen. So a smaller subset of the same seed is contained in a larger one.

    Raises ValueError where a class has fewer examples than asked for (its label and count are named); option: by which
    option of the dataset they were.
    """
    wanted, there = torch.tensor(counts), torch.bincount(labels, minlength=len(counts))
    if bool((there < wanted).any()):
        label = int((there - wanted).argmin())
        raise ValueError(
            f"dataset.{option}: expected at most {int(there[label])} (class {label} has no more), "
            f"got {counts[label]}. Lower it."
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[torch.argsort(labels[order], stable=True)]
    rank = torch.arange(len(labels)) - (there.cumsum(0) - there)[labels[by_class]]
    return by_class[rank < wanted[labels[by_class]]].sort().values


def training_subset(
    labels: Tensor, num_classes: int, examples_per_class: int | None, imbalance: float, seed: int
) -> Tensor:
    """Indices, ascending, of the examples to train on: balanced, long-tailed, or all of them as they are.

    N = examples_per_class, of the largest class; sizes are those of `class_sizes`. None takes every example.

    Raises ValueError where imbalance is asked for without an N, where the smallest class would be empty, and where a
    class has fewer examples than asked for.
    """
    if examples_per_class is None:
        if imbalance != 1:
            raise ValueError(
                f"dataset.imbalance: expected 1.0 with examples_per_class=null, got {imbalance:g}. "
                "Set dataset.examples_per_class: the size of the largest class."
            )
        return torch.arange(len(labels))
    return choose(labels, class_sizes(num_classes, examples_per_class, imbalance), seed)


def class_sizes(num_classes: int, examples_per_class: int, imbalance: float) -> list[int]:
    """n_c = round(N · imbalance^(−c/(C−1))), N = examples_per_class: the exponential profile of Cui et al. 2019.

    From N down to N/imbalance along the labels; 1.0 is balanced. Raises ValueError where the smallest would be empty.
    """
    counts = [round(examples_per_class * imbalance ** (-c / (num_classes - 1))) for c in range(num_classes)]
    if min(counts) < 1:
        raise ValueError(
            f"dataset.imbalance: expected less than 2 × examples_per_class = {2 * examples_per_class}, "
            f"got {imbalance:g}. The smallest class would be empty."
        )
    return counts


def testing_subset(labels: Tensor, num_classes: int, examples_per_class: int | None, seed: int) -> Tensor:
    """Indices, ascending, of the examples to test on: as many of each class, by the rule of `choose`; None: all.

    Raises ValueError where a class has fewer examples than asked for.
    """
    if examples_per_class is None:
        return torch.arange(len(labels))
    return choose(labels, [examples_per_class] * num_classes, seed, "test_examples_per_class")


def mislabel(labels: Tensor, num_classes: int, fraction: float, seed: int) -> Tensor:
    """The labels (n,) with round(fraction · n) of them moved to another class, each of the others equally likely.

    They are drawn without replacement; the draw depends on the seed and on nothing else that the same seed decides.
    """
    digest = hashlib.sha256(f"label noise/{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    wrong = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
    step = torch.randint(1, num_classes, (len(wrong),), generator=generator)
    result = labels.clone()
    result[wrong] = (labels[wrong] + step) % num_classes
    return result
