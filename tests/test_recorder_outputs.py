"""What a recorded model may return: a pair that begins with the logits gives the numbers of the logits alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_loops import NUM_CLASSES, loaders, network
from torch import Tensor, nn

import ncexp
from ncexp.record import Record


class WithFeatures(nn.Module):
    """(logits, features) of a network, as those of ncexp return it."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network[:-1](inputs)
        return self.network[-1](features), features


@pytest.mark.usefixtures("no_figures")
def test_network_that_returns_logits_and_features_is_recorded(tmp_path: Path) -> None:
    plain = network()
    numbers: list[Record] = []
    for model, last in ((plain, "last"), (WithFeatures(plain), "network.last")):
        with ncexp.Recorder(
            tmp_path / last, num_classes=NUM_CLASSES, classifier=last, analyses=["collapse"]
        ) as recorder:
            numbers.append(recorder.evaluate(1, model, *loaders()))
    assert numbers[0] == numbers[1]
    assert "test/collapse/nc1_trace" in numbers[1]
