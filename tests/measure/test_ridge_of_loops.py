"""λ of recorded loops and of others' checkpoints: from the optimizer itself, or from what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from own_loops import NUM_CLASSES, half_mse, loaders
from own_loops import network as own_network
from support import required

import ncexp
from ncexp.config import ConfigError
from ncexp.record import read_json, read_run


def recorded(directory: Path, kind: str, **options: float) -> dict[str, object]:
    """facts.json of a loop with this optimizer."""
    model, (train_loader, _) = own_network(), loaders()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1, weight_decay=0.2, **options)
    recorder = ncexp.Recorder(directory, num_classes=4, classifier="last", loss="mse", optimizer=optimizer, analyses=[])
    recorder.evaluate(1, model, train_loader)
    return read_json(directory / "facts.json") or {}


@pytest.mark.filterwarnings("ignore:adamw. λ = 0")
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


@pytest.mark.slow
def test_ridge_of_each_epoch_is_in_its_row_and_the_facts_follow(tmp_path: Path) -> None:
    """λ as the loop's own objective has it: its decay part is λ/2 ‖W̃‖²."""
    model, (train_loader, _) = own_network(), loaders()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.02)
    last, found = model.last, []
    size = float(sum(one.detach().double().square().sum() for one in last.parameters()))  # type: ignore[union-attr]
    with ncexp.Recorder(
        tmp_path / "mine", num_classes=4, classifier="last", loss="mse", optimizer=optimizer, analyses=["decomposition"]
    ) as recorder:
        for epoch, decay in ((1, 0.02), (2, 0.02), (3, 0.2)):
            optimizer.param_groups[0]["weight_decay"] = decay
            record = recorder.evaluate(epoch, model, train_loader)
            found.append((record["train/mse/ridge_weight"], record["train/mse/ridge_bias"]))
            assert record["train/mse/loss_decay"] == pytest.approx(decay / 2 * size)
            facts = read_json(tmp_path / "mine" / "facts.json") or {}
            assert facts["ridge_weight"] == decay
    assert found == [(0.02, 0.02), (0.02, 0.02), (0.2, 0.2)]
    assert "at epoch 3: it has changed" in facts["ridge_convention"]


def test_ridge_of_zero_is_warned_of_at_once_with_its_reason(tmp_path: Path) -> None:
    model, (train_loader, _) = own_network(), loaders()
    options = {"num_classes": 4, "classifier": "last", "analyses": []}
    adamw = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    with pytest.warns(UserWarning, match=r"mine: λ = 0: the weight decay is decoupled from the gradient \(AdamW\)"):
        ncexp.Recorder(tmp_path / "mine", loss="mse", optimizer=adamw, **options).evaluate(1, model, train_loader)
    frozen = model.last.requires_grad_(False)
    assert isinstance(frozen, torch.nn.Linear)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.02)
    with pytest.warns(UserWarning, match="the last layer's weight is not trained"):
        ncexp.Recorder(tmp_path / "fixed", loss="mse", optimizer=sgd, **options).evaluate(1, model, train_loader)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda layer: layer.requires_grad_(False), "the last layer's weight is not trained"),
        (torch.nn.utils.parametrizations.spectral_norm, "the last layer's weight is made by _SpectralNorm"),
    ],
)
def test_ridge_that_is_stated_of_a_weight_that_is_not_decayed_is_zero(tmp_path: Path, change: Any, words: str) -> None:
    model, (train_loader, _) = own_network(), loaders()
    change(model.last)
    recorder = ncexp.Recorder(tmp_path, num_classes=4, classifier="last", loss="mse", weight_decay=0.2, analyses=[])
    with pytest.warns(UserWarning, match=words):
        recorder.evaluate(1, model, train_loader)
    assert (read_json(tmp_path / "facts.json") or {})["ridge_weight"] == 0


def test_decomposition_of_a_head_that_is_not_trained_has_no_decay(tmp_path: Path) -> None:
    """The loss of a fixed head that torch does not decay is the plain mean of the paper's loss."""
    model, (train_loader, _) = own_network().eval(), loaders()
    model.last.requires_grad_(False)  # type: ignore[union-attr]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-3)
    recorder = ncexp.Recorder(tmp_path, num_classes=NUM_CLASSES, classifier="last", loss="mse", optimizer=optimizer)
    with pytest.warns(UserWarning, match="not trained"):
        record = recorder.evaluate(1, model, train_loader)
    inputs, labels = train_loader.dataset.tensors  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = float(half_mse(model(inputs).double(), labels))
    assert record["train/mse/loss"] == pytest.approx(expected, rel=1e-6)  # float32 logits


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lightning", "accelerate"])
def test_recorder_reads_the_decay_within_a_frameworks_wrapper(tmp_path: Path, kind: str) -> None:
    model, (train_loader, _) = own_network(), loaders()
    inner = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    if kind == "lightning":
        wrapped = required("lightning.pytorch.core.optimizer").LightningOptimizer(inner)
    else:
        wrapped = required("accelerate").Accelerator(cpu=True).prepare(inner)
    assert type(wrapped) is not torch.optim.SGD
    recorder = ncexp.Recorder(tmp_path, num_classes=4, classifier="last", loss="mse", optimizer=wrapped, analyses=[])
    recorder.evaluate(1, model, train_loader)
    facts, options = read_json(tmp_path / "facts.json") or {}, read_run(tmp_path).raw["optimizer"]
    assert (facts["ridge_weight"], facts["ridge_bias"]) == (0.01, 0.01)
    assert (options["class"], options["lr"], options["weight_decay"]) == ("torch.optim.sgd.SGD", 0.1, 0.01)
