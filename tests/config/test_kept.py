"""Which weights are kept for later: those of the zero-error epoch and of the last."""

from __future__ import annotations

import pytest

from ncexp.config import Keep, check
from ncexp.config.composing import compose_plain


def test_zero_error_keeps_the_weights_of_two_epochs() -> None:
    keep = Keep(snapshots="evaluated", checkpoints="zero_error")
    kept = [epoch for epoch in range(1, 11) if keep.keeps("checkpoints", epoch, last=10, zero_error=4)]
    assert kept == [4, 10]
    assert [epoch for epoch in range(1, 11) if keep.keeps("checkpoints", epoch, last=10)] == [10]
    assert keep.keeps("snapshots", 7, last=10, zero_error=4)


@pytest.mark.slow
def test_sweep_han2022_measures_robustness_and_keeps_the_weights_for_it() -> None:
    """Of every evaluated epoch, so of the zero-error epoch and the last, which always are evaluated."""
    config = check(compose_plain("config", ["sweep=han2022", "experiment=han2022/mnist_resnet"]))
    assert "robustness" in config.analyses
    assert {"collapse", "decisions", "decomposition", "central_path"} < config.analyses.keys()
    assert config.keep == Keep(snapshots="evaluated", checkpoints="zero_error")
    assert config.key == check(compose_plain("config", ["experiment=han2022/mnist_resnet"])).key
