"""Options that came later leave the keys of earlier runs alone, and count where they are used."""

from __future__ import annotations

from typing import Any

import pytest

from ncexp.config import Component


def sgd(**options: Any) -> Component:
    raw = {"name": "sgd", "_target_": "ncexp.training.optimizers.sgd", "lr": 0.1, **options}
    return Component.check("optimizer", raw)


def test_key_of_earlier_runs_stays() -> None:
    before = {"_target_": "ncexp.training.optimizers.sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    assert sgd().identity() == before
    assert sgd(decoupled=0.0, decay_of=None).identity() == before


@pytest.mark.parametrize("options", [{"decoupled": 0.5}, {"decay_of": {"*.bias": 0.0}}])
def test_key_has_what_is_used(options: dict[str, Any]) -> None:
    assert options.items() <= sgd(**options).identity().items()
