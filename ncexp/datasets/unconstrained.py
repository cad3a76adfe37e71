"""Examples that are nothing but their number: for networks whose features are free, one vector an example."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from ncexp.config import ADDED, Count, Positive, Seed
from ncexp.datasets import Dataset, Split, Targets
from ncexp.datasets.preprocessing import Imbalance
from ncexp.datasets.preprocessing import class_sizes as sizes_of

#: Inputs are an n×n identity in float32: 1 GiB.
MOST_EXAMPLES = 2**14


def numbered(
    *,
    num_classes: Annotated[int, Field(ge=2)] = 10,
    examples_per_class: Count = 20,
    imbalance: Annotated[Imbalance, ADDED] = 1.0,
    class_sizes: Annotated[list[Count] | None, ADDED] = None,
) -> Dataset:
    """n examples in the order of their classes; the input of example i is the i-th row of the n×n identity.

    examples_per_class: N, of the largest class; imbalance: largest class over smallest (`preprocessing.class_sizes`).
    class_sizes: any others, one each; then num_classes is their number and examples_per_class the largest.

    The test split is the train split: a feature that belongs to one example has nothing to say of another, so there is
    no generalisation to measure.

    Raises ValueError where n is above MOST_EXAMPLES, or the class sizes say otherwise than the other options.
    """
    if class_sizes is not None and ((len(class_sizes), max(class_sizes, default=0)), imbalance) != (
        (num_classes, examples_per_class),
        1.0,
    ):
        raise ValueError(
            f"dataset.class_sizes: expected num_classes={num_classes} sizes, the largest "
            f"examples_per_class={examples_per_class}, and no imbalance, got {class_sizes}. Set these to agree."
        )
    # Each class has an example, and a list of their sizes has to fit into memory.
    few = num_classes <= MOST_EXAMPLES
    counts = class_sizes or (sizes_of(num_classes, examples_per_class, imbalance) if few else [num_classes])
    num_examples = sum(counts)
    if num_examples > MOST_EXAMPLES:
        raise ValueError(
            f"dataset.examples_per_class: expected at most {MOST_EXAMPLES} examples in all, got {num_examples}. "
            "Lower dataset.examples_per_class or dataset.num_classes."
        )
    split = Split(torch.eye(num_examples), torch.arange(num_classes).repeat_interleave(torch.tensor(counts)))
    return Dataset(split, split, num_classes, {"test_split": "the train split"})


def with_targets(
    *, variances: Annotated[list[Positive], Field(min_length=1)], num_examples: Count = 100, sample_seed: Seed = 0
) -> Dataset:
    """n examples as those of `numbered`, with targets whose covariance has exactly the eigenvalues `variances`.

    Targets (n, m) are drawn from a normal distribution, whitened, scaled and turned by a rotation that is drawn too;
    their mean is 0. The test split is the train split.

    Raises ValueError where n is above MOST_EXAMPLES, or not above m.
    """
    m = len(variances)
    if not m < num_examples <= MOST_EXAMPLES:
        raise ValueError(
            f"dataset.num_examples: expected more than the {m} targets and at most {MOST_EXAMPLES}, got {num_examples}."
        )
    generator = torch.Generator().manual_seed(sample_seed)
    drawn = torch.randn(num_examples, m, generator=generator, dtype=torch.float64)
    white = num_examples**0.5 * torch.linalg.qr(drawn - drawn.mean(0)).Q
    rotation = torch.linalg.qr(torch.randn(m, m, generator=generator, dtype=torch.float64)).Q
    targets = white * torch.tensor(variances, dtype=torch.float64).sqrt() @ rotation.T
    split = Split(torch.eye(num_examples), targets.float())
    names = [f"y{k}" for k in range(1, m + 1)]
    return Dataset(split, split, m, {"test_split": "the train split"}, targets=Targets(names, [1.0] * m))
