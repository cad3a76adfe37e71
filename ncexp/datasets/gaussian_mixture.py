"""A synthetic mixture of spherical Gaussians around the vertices of a regular simplex."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ncexp.collapse import simplex_etf
from ncexp.config import Count, Positive, Seed
from ncexp.datasets import Dataset, Split
from ncexp.datasets.holding_out import HoldOut, without_classes
from ncexp.datasets.preprocessing import Imbalance, class_sizes

#: n P of both splits: 1 GiB in float32.
MOST_NUMBERS = 2**28


def sample(
    *,
    num_classes: Annotated[int, Field(ge=2)] = 10,
    num_features: Count = 32,
    examples_per_class: Count = 100,
    test_examples_per_class: Count = 100,
    separation: Positive = 4.0,
    imbalance: Imbalance = 1.0,
    hold_out: HoldOut = None,
    sample_seed: Seed = 0,
) -> Dataset:
    """x = m_c + standard normal noise, where any two class means m_c lie `separation` apart.

    examples_per_class: N, of the largest training class; imbalance: largest class over smallest
    (`preprocessing.class_sizes`). The test set is balanced. inputs (n, P) float32. hold_out: classes to train without
    (`holding_out`), of the num_classes that are drawn.

    Raises ValueError where P < C − 1 (no simplex fits), where the inputs are more than MOST_NUMBERS, where the smallest
    class would be empty, for a class held out that does not exist, or one class left.
    """
    if num_features < num_classes - 1:
        raise ValueError(
            f"dataset.num_features: expected at least num_classes - 1 = {num_classes - 1}, got {num_features}. "
            "A regular simplex needs that many dimensions."
        )
    numbers = num_classes * (examples_per_class + test_examples_per_class) * num_features
    if numbers > MOST_NUMBERS:
        raise ValueError(
            f"dataset.num_features: expected at most {MOST_NUMBERS} numbers in all inputs, got {numbers}. Lower it, "
            "dataset.num_classes, dataset.examples_per_class or dataset.test_examples_per_class."
        )
    counts = class_sizes(num_classes, examples_per_class, imbalance)
    vertices = simplex_etf(num_classes, num_features)
    means = vertices * (separation / torch.linalg.vector_norm(vertices[0] - vertices[1]).item())
    generator = torch.Generator().manual_seed(sample_seed)
    train = _draw(means, counts, generator)
    data = Dataset(train, _draw(means, [test_examples_per_class] * num_classes, generator), num_classes)
    return without_classes(data, [*map(str, range(num_classes))], hold_out)


def _draw(means: Tensor, counts: list[int], generator: torch.Generator) -> Split:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    noise = torch.randn(len(labels), means.shape[1], generator=generator, dtype=torch.float64)
    return Split((means[labels] + noise).float(), labels)
