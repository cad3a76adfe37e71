"""Class statistics and every metric at the size of a vocabulary: C = 32,000 classes, P = 768, 300,000 features.

    python benchmarks/collapse_many_classes.py [NUM_CLASSES NUM_FEATURES NUM_EXAMPLES]

Prints the wall and CPU seconds of each step (CPU seconds count every core, and grow little when others use them too)
and the process's peak memory so far. How it scales: the statistics take 2 n P² flops, the pair statistics 2 C² P flops
and a few dozen numbers' work per pair of classes, everything else O(C P²); memory is a few arrays of C P numbers.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import torch

from ncexp.collapse import (
    ClassStatistics,
    ClassStatisticsAccumulator,
    LinearClassifier,
    decompose_mse,
    measure_collapse,
)

Result = TypeVar("Result")
BATCH = 1000


def batches(means: torch.Tensor, num_examples: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """float32 features about the class means, every class at least once, in random order."""
    num_classes = len(means)
    labels = torch.cat([torch.arange(num_classes), torch.randint(num_classes, (num_examples - num_classes,))])
    for batch in labels[torch.randperm(num_examples)].split(BATCH):
        yield means[batch] + torch.randn(len(batch), means.shape[1]), batch


def accumulate(means: torch.Tensor, num_examples: int) -> ClassStatistics:
    """The statistics in one pass; the time to draw the features is part of it."""
    accumulator = ClassStatisticsAccumulator(*means.shape)
    for features, labels in batches(means, num_examples):
        accumulator.update(features, labels)
    return accumulator.compute()


def timed(step: str, work: Callable[[], Result]) -> Result:
    """Runs one step and prints its line."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{step:20s} wall {wall:7.1f} s   cpu {cpu:7.1f} s   peak {peak:5.2f} GiB", flush=True)
    return result


def main(num_classes: int = 32_000, num_features: int = 768, num_examples: int = 300_000) -> None:
    """Measures the three steps, one after the other."""
    torch.manual_seed(0)
    means = torch.randn(num_classes, num_features)
    statistics = timed("class statistics", partial(accumulate, means, num_examples))
    classifier = LinearClassifier(means + torch.randn_like(means), torch.randn(num_classes))
    del means  # the statistics hold them, in float64
    metrics = timed("every metric", lambda: measure_collapse(statistics, classifier))
    decomposition = timed("MSE decomposition", lambda: decompose_mse(statistics, classifier, 5e-4))
    print(metrics, decomposition, f"residual {decomposition.residual:.1e}", sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
