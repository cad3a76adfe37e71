"""Trainings as `ncexp` builds them, on generated images: how long a step takes does not depend on what they show."""

from __future__ import annotations

import torch
from timing import device
from torch.utils.flop_counter import FlopCounterMode

from ncexp.config import RunConfig, check
from ncexp.config.composing import compose_mapping
from ncexp.datasets import Dataset, Split
from ncexp.measure import build_analyses, evaluate, run_analysis, subject_of, with_errors
from ncexp.training import Assembly, assemble

NUM_CLASSES = 10


def generated(num_examples: int, shape: tuple[int, int, int], num_test: int = 256) -> Dataset:
    """Noise in the shape of images, balanced."""
    generator = torch.Generator().manual_seed(0)
    train, test = (
        Split(torch.randn(count, *shape, generator=generator), torch.arange(count) % NUM_CLASSES)
        for count in (num_examples, num_test)
    )
    return Dataset(train, test, NUM_CLASSES)


def configured(*overrides: str) -> RunConfig:
    """A run with these overrides on the benchmark's device."""
    return check(compose_mapping("config", [f"device={device().type}", *overrides]))


def assembled(data: Dataset, *overrides: str) -> Assembly:
    """The parts of such a run, on `data` whatever dataset they choose, at a rate that no noise diverges at."""
    return assemble(configured("optimizer=sgd", "optimizer.lr=1e-4", *overrides), data)


def evaluated(assembly: Assembly, config: RunConfig) -> dict[str, float]:
    """One evaluation with the analyses of `config`: every number of every split, and nothing on the disk."""
    subject, record = subject_of(assembly), dict[str, float]()
    done = evaluate(subject, 1, {})
    for analysis in build_analyses(with_errors(config.analyses)).values():
        record |= run_analysis(analysis, done.snapshot, subject, done)
    return record


def train_epoch(assembly: Assembly) -> None:
    """The epoch under way, to its end."""
    assembly.training.run_epoch(lambda: False)


def operations_an_example(assembly: Assembly) -> float:
    """Of a training step, divided by its examples: sums and products in convolutions and matrix products."""
    training = assembly.training
    inputs, labels = next(training.data.batches(4))
    with FlopCounterMode(display=False) as counter:
        logits, features = training.network(inputs)
        training.loss(logits, labels, features).backward()
    return counter.get_total_flops() / len(labels)
