"""The order of the examples: the seed's and the epoch's alone, on whatever device the data lie."""

from __future__ import annotations

import pytest
import torch
from support import Compose

from ncexp.config import check
from ncexp.training import assemble


def test_order_is_a_permutation_that_seed_and_epoch_determine(composed: Compose) -> None:
    first, other_seed = (assemble(check(composed(f"seed={seed}"))).training for seed in (0, 1))
    order = first._order(1)
    assert order.sort().values.tolist() == list(range(80))
    assert order.equal(first._order(1))
    assert not order.equal(first._order(2))
    assert not order.equal(other_seed._order(1))


def test_order_is_drawn_on_the_cpu_for_data_on_any_device(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device has a generator of its own kind: a run resumed on another one would meet some examples twice."""
    training = assemble(check(composed())).training
    drawn, randperm = [], torch.randperm

    def noted(*arguments: int, **options: torch.Generator) -> torch.Tensor:
        drawn.append(randperm(*arguments, **options))
        return drawn[-1]

    expected = training._order(1)
    training.data = training.data.to(torch.device("meta"))  # has shapes and no numbers, and no generator
    monkeypatch.setattr(torch, "randperm", noted)
    assert training._order(1).device.type == "meta"
    assert drawn[0].equal(expected)
