"""Robustness in a run: the examples that were asked for, at the epochs that were asked for."""

from __future__ import annotations

import pytest
import torch
from support import Compose

from ncexp.assembly import assemble
from ncexp.config import check
from ncexp.robustness import robustness


def test_robustness_analysis_measures_the_drawn_test_examples(composed: Compose) -> None:
    assembly = assemble(check(composed("analysis=[robustness]", "analysis.robustness.num_examples=7",
                                       "analysis.robustness.epochs=null")))  # fmt: skip
    record = assembly.look()
    order = torch.randperm(len(assembly.dataset.test), generator=torch.Generator().manual_seed(0))[:7]
    inputs, _ = next(assembly.dataset.test.batches(40))
    expected = robustness(assembly.training.network, inputs[order])
    assert record["test/robustness"] == pytest.approx(expected.robustness, rel=1e-6)
    assert record["test/robustness_not_crossed"] == expected.num_not_crossed
    assert "train/robustness" not in record


def test_robustness_analysis_keeps_to_its_epochs(composed: Compose) -> None:
    assembly = assemble(check(composed("analysis=[robustness]", "analysis.robustness.epochs=[2]")))
    assembly.training.position.epoch = 2
    assert "test/robustness" not in assembly.look()
    assembly.training.position.epoch = 3  # two epochs are trained
    assert "test/robustness" in assembly.look()
