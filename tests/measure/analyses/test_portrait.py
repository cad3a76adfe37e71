"""The examples that an analysis keeps in snapshots: against a loop over the examples and the network itself."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from rich.console import Console
from support import Compose, compose, trained

from ncexp.config import check_measurement, stored_run
from ncexp.measure import load_snapshot, measure_stored
from ncexp.record import RunDirectory, State, read_config
from ncexp.training import assemble, load_weights


def first_of_each(directory: RunDirectory, epoch: int, split: str, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and labels of the first examples of every class, by a loop over them."""
    assembly = assemble(stored_run(read_config(directory.config)), trains=False)
    load_weights(directory.checkpoint(epoch), assembly.training.network, directory.key)
    inputs, labels = next(assembly.dataset.splits[split].batches(10**6))
    seen, chosen = Counter[int](), []
    for place, label in enumerate(labels.tolist()):
        seen[label] += 1
        if seen[label] <= most:
            chosen.append(place)
    with torch.no_grad():
        features = assembly.training.network.eval()(inputs)[1]
    return features[chosen], labels[chosen]


def measured(directory: RunDirectory, console: Console, *overrides: str) -> tuple[State, str]:
    asked = check_measurement(compose("measure", [f"run={directory.path}", "device=cpu", *overrides]))
    return measure_stored(asked, console, lambda: False)


@pytest.mark.parametrize("later", [False, True], ids=["in_training", "of_a_stored_run"])
def test_portrait_keeps_the_first_examples_of_every_class(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    monkeypatch.setattr("ncexp.measure.analyses.portrait.BLOCK", 7)  # so that a class is met in several blocks
    portrait = ["analysis=[collapse,portrait]", "analysis.portrait.examples=3"]
    directory = trained(composed("keep.checkpoints=evaluated", *([] if later else portrait)))
    before = {epoch: load_snapshot(directory.snapshot(epoch), directory.key) for epoch in directory.kept_snapshots()}
    if later:
        assert measured(directory, console, *portrait)[0] is State.COMPLETED
    for epoch, old in before.items():
        new = load_snapshot(directory.snapshot(epoch), directory.key)
        for split, one in new.splits.items():
            features, labels = first_of_each(directory, epoch, split, 3)
            assert one.examples["labels"].tolist() == labels.tolist()
            torch.testing.assert_close(one.examples["features"], features, rtol=1e-5, atol=1e-5)
            covariances = (s.splits[split].statistics.within_class_covariance for s in (old, new))
            assert torch.equal(*covariances)
    assert measured(directory, console, *portrait)[1].startswith("nothing to measure")
