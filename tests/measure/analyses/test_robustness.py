"""Robustness in a run: the examples that were asked for."""

from __future__ import annotations

import pytest
import torch
from support import Compose, measured

from ncexp.config import check
from ncexp.measure.deepfool import robustness
from ncexp.training import assemble


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "taken"), [(7, 7), (1000, 40)])
def test_robustness_analysis_measures_the_drawn_test_examples(composed: Compose, asked: int, taken: int) -> None:
    config = check(composed("analysis=[robustness]", f"analysis.robustness.num_examples={asked}"))
    assembly = assemble(config)
    record = measured(assembly, config)
    order = torch.randperm(len(assembly.dataset.test), generator=torch.Generator().manual_seed(0))[:taken]
    inputs, _ = next(assembly.dataset.test.batches(40))
    assert len(order) == taken
    ratio, not_crossed = robustness(assembly.training.network, inputs[order])
    assert record["test/robustness/ratio"] == pytest.approx(ratio, rel=1e-6)
    assert record["test/robustness/not_crossed"] == not_crossed
    assert not any(name.startswith("train/robustness") for name in record)
