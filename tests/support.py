"""Types and helpers that several tests import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: compose("loss=cross_entropy", ...) → the plain configuration of a small run, see conftest.composed.
Compose = Callable[..., dict[str, Any]]

#: Four classes of twenty examples.
SMALL_DATA = [
    "dataset=gaussian_mixture",
    "dataset.num_classes=4",
    "dataset.num_features=6",
    "dataset.examples_per_class=20",
    "dataset.test_examples_per_class=10",
]

#: A run that trains in a second.
SMALL = [
    *SMALL_DATA,
    "architecture=mlp",
    "architecture.hidden=[16,8]",
    "loss=mse",
    "optimizer.lr=0.018420157",
    "epochs=6",
    "batch_size=32",
    "analysis_epochs=[1,2,4]",
]
