"""Examples that are nothing but their number: for networks whose features are free, one vector an example."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from ncexp.config import ADDED, Count
from ncexp.datasets import Dataset, Split
from ncexp.datasets.preprocessing import Imbalance, class_sizes

#: Inputs are an n×n identity in float32: 1 GiB.
MOST_EXAMPLES = 2**14


def numbered(
    *,
    num_classes: Annotated[int, Field(ge=2)] = 10,
    examples_per_class: Count = 20,
    imbalance: Annotated[Imbalance, ADDED] = 1.0,
) -> Dataset:
    """n examples in the order of their classes; the input of example i is the i-th row of the n×n identity.

    examples_per_class: N, of the largest class; imbalance: largest class over smallest (`preprocessing.class_sizes`).

    The test split is the train split: a feature that belongs to one example has nothing to say of another, so there is
    no generalisation to measure.

    Raises ValueError where n is above MOST_EXAMPLES.
    """
    # Each class has an example, and a list of their sizes has to fit into memory.
    counts = class_sizes(num_classes, examples_per_class, imbalance) if num_classes <= MOST_EXAMPLES else [num_classes]
    num_examples = sum(counts)
    if num_examples > MOST_EXAMPLES:
        raise ValueError(
            f"dataset.examples_per_class: expected at most {MOST_EXAMPLES} examples in all, got {num_examples}. "
            "Lower dataset.examples_per_class or dataset.num_classes."
        )
    split = Split(torch.eye(num_examples), torch.arange(num_classes).repeat_interleave(torch.tensor(counts)))
    return Dataset(split, split, num_classes, {"test_split": "the train split"})
