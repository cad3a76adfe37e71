"""NC4 in a run: the centres are the train class means, on either split."""

from __future__ import annotations

import pytest
import torch
from support import Compose

from ncexp.assembly import assemble
from ncexp.config import check


def test_nearest_class_center_mismatch_on_test_takes_the_train_means(composed: Compose) -> None:
    # Few, overlapping examples: the test split's own means would decide otherwise.
    hard = ["dataset.separation=0.5", "dataset.examples_per_class=5", "batch_size=20", "analysis=[neural_collapse]"]
    assembly = assemble(check(composed(*hard)))
    record = assembly.look()
    network, dataset = assembly.training.network.eval(), assembly.dataset
    with torch.no_grad():
        _, train = network(next(dataset.train.batches(len(dataset.train)))[0])
        logits, test = network(next(dataset.test.batches(len(dataset.test)))[0])

    def mismatch(features: torch.Tensor, labels: torch.Tensor) -> float:
        centres = torch.stack([features[labels == c].double().mean(0) for c in range(4)])
        return (torch.cdist(test.double(), centres).argmin(1) != logits.argmax(1)).double().mean().item()

    by_train, by_test = mismatch(train, dataset.train.labels), mismatch(test, dataset.test.labels)
    assert by_train != by_test  # else the test could not tell
    assert record["test/nearest_class_center_mismatch"] == pytest.approx(by_train, abs=1e-12)
