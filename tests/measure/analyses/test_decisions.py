"""Decisions in a run: the centres and the least-squares layer are of the train features, on either split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import Compose, measured, subject_of

from ncexp.config import check
from ncexp.training import assemble

#: Few, overlapping examples: the test split's own means would decide otherwise.
HARD = ["dataset.separation=0.5", "dataset.examples_per_class=5", "batch_size=20", "analysis=[decisions]"]


def test_nearest_class_center_mismatch_on_test_takes_the_train_means(composed: Compose) -> None:
    config = check(composed(*HARD))
    assembly = assemble(config)
    record = measured(assembly, config)
    network, dataset = assembly.training.network.eval(), assembly.dataset
    with torch.no_grad():
        _, train = network(next(dataset.train.batches(len(dataset.train)))[0])
        logits, test = network(next(dataset.test.batches(len(dataset.test)))[0])

    def nearest(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        centres = torch.stack([features[labels == c].double().mean(0) for c in range(4)])
        return torch.cdist(test.double(), centres).argmin(1)

    def mismatch(decided: torch.Tensor) -> float:
        return (decided != logits.argmax(1)).double().mean().item()

    by_train, by_test = nearest(train, dataset.train.labels), nearest(test, dataset.test.labels)
    assert mismatch(by_train) != mismatch(by_test)  # else the test could not tell
    assert record["test/collapse/nearest_class_center_mismatch"] == pytest.approx(mismatch(by_train), abs=1e-12)
    wrong = (by_train != dataset.test.labels).double().mean().item()
    assert record["test/decisions/nearest_class_center_error"] == pytest.approx(wrong, abs=1e-12)


def test_least_squares_decisions_are_those_of_the_train_features_optimum(composed: Compose) -> None:
    """Against the normal equations of ½ Ave ‖W h + b − y‖² + λ/2 (‖W‖² + ‖b‖²), solved by NumPy."""
    config = check(composed(*HARD))
    assembly = assemble(config)
    record = measured(assembly, config)
    network, dataset, ridge = assembly.training.network.eval(), assembly.dataset, subject_of(assembly).ridge
    assert ridge.weight == ridge.bias > 0
    with torch.no_grad():
        _, train = network(next(dataset.train.batches(len(dataset.train)))[0])
        logits, test = network(next(dataset.test.batches(len(dataset.test)))[0])
    extended, targets = np.c_[train.double().numpy(), np.ones(len(train))], np.eye(4)[dataset.train.labels.numpy()]
    gram = extended.T @ extended / len(train) + ridge.weight * np.eye(extended.shape[1])
    weights = np.linalg.solve(gram, extended.T @ targets / len(train))
    decided = (np.c_[test.double().numpy(), np.ones(len(test))] @ weights).argmax(1)
    wrong, different = (decided != dataset.test.labels.numpy()).mean(), (decided != logits.argmax(1).numpy()).mean()
    assert wrong > 0
    assert different > 0
    assert record["test/decisions/least_squares_error"] == pytest.approx(wrong, abs=1e-12)
    assert record["test/path/decision_mismatch"] == pytest.approx(different, abs=1e-12)
