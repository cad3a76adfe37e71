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


def test_decisions_on_test_are_those_of_train_means_and_train_optimum(composed: Compose) -> None:
    """The optimum against the normal equations of ½ Ave ‖W h + b − y‖² + λ/2 (‖W‖² + ‖b‖²), solved by NumPy."""
    config = check(composed(*HARD))
    assembly = assemble(config)
    record = measured(assembly, config)
    network, dataset, ridge = assembly.training.network.eval(), assembly.dataset, subject_of(assembly).ridge
    train_labels, labels = dataset.train.labels.numpy(), dataset.test.labels.numpy()
    with torch.no_grad():
        train = network(next(dataset.train.batches(len(train_labels)))[0])[1].double().numpy()
        logits, test = (one.double().numpy() for one in network(next(dataset.test.batches(len(labels)))[0]))

    def nearest(features: np.ndarray, of: np.ndarray) -> np.ndarray:
        centres = np.stack([features[of == c].mean(0) for c in range(4)])
        return np.linalg.norm(test[:, None] - centres, axis=2).argmin(1)

    own, by_means, by_test = logits.argmax(1), nearest(train, train_labels), nearest(test, labels)
    assert (by_means != own).mean() != (by_test != own).mean()  # else the test could not tell
    assert ridge.weight == ridge.bias > 0
    extended, targets = np.c_[train, np.ones(len(train))], np.eye(4)[train_labels]
    gram = extended.T @ extended / len(train) + ridge.weight * np.eye(extended.shape[1])
    weights = np.linalg.solve(gram, extended.T @ targets / len(train))
    by_optimum = (np.c_[test, np.ones(len(test))] @ weights).argmax(1)
    expected = {
        "collapse/nearest_class_center_mismatch": by_means != own,
        "decisions/nearest_class_center_error": by_means != labels,
        "decisions/least_squares_error": by_optimum != labels,
        "path/decision_mismatch": by_optimum != own,
    }
    for name, differ in expected.items():
        assert record[f"test/{name}"] == pytest.approx(differ.mean(), abs=1e-12)
        assert differ.any()
