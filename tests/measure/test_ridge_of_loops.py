"""λ of recorded loops and of others' checkpoints: from the optimizer itself, or from what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from own_loops import loaders
from own_loops import network as own_network

import ncexp
from ncexp.config import ConfigError
from ncexp.record import read_json


def recorded(directory: Path, kind: str, **options: float) -> dict[str, object]:
    """facts.json of a loop with this optimizer."""
    model, (train_loader, _) = own_network(), loaders()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1, weight_decay=0.2, **options)
    recorder = ncexp.Recorder(directory, num_classes=4, classifier="last", loss="mse", optimizer=optimizer, analyses=[])
    recorder.evaluate(1, model, train_loader)
    return read_json(directory / "facts.json") or {}


def test_recorder_reads_the_decay_of_the_loops_optimizer(tmp_path: Path) -> None:
    coupled, decoupled = recorded(tmp_path / "sgd", "SGD"), recorded(tmp_path / "adamw", "AdamW")
    assert (coupled["ridge_weight"], coupled["ridge_bias"]) == (0.2, 0.2)
    assert (decoupled["ridge_weight"], decoupled["ridge_bias"]) == (0, 0)
    assert "decoupled from the gradient (AdamW)" in str(decoupled["ridge_convention"])


def test_recorder_refuses_a_decay_beside_the_optimizer(tmp_path: Path) -> None:
    model = own_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="weight_decay: expected none beside optimizer"):
        ncexp.Recorder(tmp_path, num_classes=4, classifier="last", optimizer=optimizer, weight_decay=0.1)
