"""`ncexp measure checkpoints=` of a model of tokens, from the command's configuration to numbers measured later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_language_model as tiny
import torch
from rich.console import Console
from support import compose

from ncexp.config import ConfigError, MeasureConfig, check_analyses
from ncexp.config.composing import REFUSALS
from ncexp.config.installed import read_choice
from ncexp.main import measure_checkpoints, run
from ncexp.measure import measure_stored
from ncexp.record import RunDirectory, read_json, read_run

#: float32 features of batches of other sizes.
OF_FLOAT32 = 1e-4
OPTIONS = [
    "dataset=tokens",
    "dataset.factory=tiny_language_model.data",
    f"dataset.num_classes={tiny.VOCABULARY}",
    "architecture=tokens",
    "architecture.factory=tiny_language_model.make",
    "architecture.classifier=lm_head",
    "loss=cross_entropy",
    "optimizer=adamw",
    "optimizer.weight_decay=0.01",
    "tracking.enabled=false",
]
OCCURRING = ["dataset.shift_labels=true", "dataset.classes=occurring", "dataset.min_examples=3"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Tied weights under one of their two names, as safetensors of Transformers have them."""
    model = tiny.make()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    torch.save(weights, tmp_path / "epoch_1.pt")
    return tmp_path / "epoch_1.pt"


def measured(outputs: Path, console: Console, *overrides: str) -> RunDirectory:
    raw = compose("checkpoints", [*OPTIONS, f"outputs={outputs}", *overrides])
    assert measure_checkpoints(raw, console) == "completed"
    (place,) = outputs.glob("*_checkpoints_*/config.yaml")
    return RunDirectory(place.parent)


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncexp.report.run.draw_run", lambda directory: [])


def test_tied_checkpoint_has_the_numbers_of_numpy(saved: Path, tmp_path: Path, console: Console) -> None:
    model = tiny.make()
    directory = measured(tmp_path / "outputs", console, f"checkpoints={saved}", *OCCURRING)
    (record,) = read_run(directory.path).records
    parts = {
        split: tiny.positions(model, rows, True) for split, rows in zip(("train", "test"), tiny.data(), strict=True)
    }
    classes = tiny.occurring([labels for _, _, labels in parts.values()], 3)
    for split, (logits, _, labels) in parts.items():
        assert record[f"{split}/error"] == pytest.approx((logits.argmax(1) != labels).mean())
        assert record[f"{split}/classes/share"] == pytest.approx(np.isin(labels, classes).mean())
    _, features, labels = parts["train"]
    chosen = np.isin(labels, classes)
    means = np.stack([features[labels == c].mean(0) for c in classes])
    weight = model.lm_head.weight.detach().double().numpy()[classes]
    expected = tiny.measured(features[chosen], np.searchsorted(classes, labels[chosen]), weight, means)
    for name in ("collapse/nc1_ratio", "collapse/cdnv", "collapse/self_duality", "mse/loss"):
        assert record[f"train/{name}"] == pytest.approx(expected[name], rel=OF_FLOAT32), name
    facts = read_json(directory.facts)
    assert (facts["num_classes"], facts["num_outputs"], facts["last_layer"]) == (len(classes), 24, "lm_head")
    assert f"{len(classes)} classes: {len(classes)} of 24 outputs, those with at least 3 examples" in (
        console.file.getvalue()  # type: ignore[attr-defined]
    )


def test_more_is_measured_later_from_snapshots_and_weights(saved: Path, tmp_path: Path, console: Console) -> None:
    outputs = tmp_path / "outputs"
    directory = measured(outputs, console, f"checkpoints={saved}", *OCCURRING, "keep.checkpoints=evaluated")
    analyses = check_analyses({name: read_choice("analysis", name) for name in ("spectra", "calibration", "collapse")})
    config = MeasureConfig(run=directory.path, analyses=analyses, device="cpu", outputs=outputs, rerun="all", raw={})
    state, _ = measure_stored(config, console, lambda: False)
    assert state == "completed"
    before, (record,) = set(read_run(directory.path).records[0]), read_run(directory.path).records
    assert {"train/spectra/weight_1", "test/calibration/negative_log_likelihood", "train/collapse/cdnv"} <= before
    logits, _, labels = tiny.positions(tiny.make(), tiny.data()[0], True)
    other = tiny.positions(tiny.make(), tiny.data()[1], True)[2]
    chosen = np.isin(labels, tiny.occurring([labels, other], 3))
    likelihood = -np.log(tiny.softmax(logits)[np.arange(len(labels)), labels])[chosen].mean()
    assert record["train/calibration/negative_log_likelihood"] == pytest.approx(likelihood, rel=OF_FLOAT32)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], r"dataset.factory: expected labels \(n,\), the class of each example.*Of tokens"),
        (["dataset.shift_labels=true"], r"expected examples of every class 0 to 23 in train, got none of .*occurring"),
        ([*OCCURRING, "dataset.num_classes=15"], "dataset.factory: expected labels 0 to 14, got 0 to 19"),
        (
            [*OCCURRING, "architecture.classifier=head"],
            "architecture.classifier: expected an nn.Linear of .* got 'head'",
        ),
        ([*OCCURRING, "dataset.min_examples=10000"], "classes: expected two at least with 10000 examples"),
        ([*OCCURRING, "dataset.num_classes=30"], "expected the weights of this network, got"),
        (
            [*OCCURRING, "analysis=[layers]", "analysis.layers.modules=[norm]"],
            "analysis.layers.features: expected every_token with labels of tokens",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    overrides: list[str], words: str, saved: Path, tmp_path: Path, console: Console
) -> None:
    raw = compose("checkpoints", [*OPTIONS, f"outputs={tmp_path}/outputs", f"checkpoints={saved}", *overrides])
    with pytest.raises(REFUSALS, match=words):
        measure_checkpoints(raw, console)


def test_tokens_are_measured_and_not_trained_on(tmp_path: Path, console: Console) -> None:
    chosen = [one for one in OPTIONS if not one.startswith("optimizer.weight")]
    raw = compose("config", [*chosen, *OCCURRING, f"outputs={tmp_path}", "epochs=1", "batch_size=8"])
    with pytest.raises(ConfigError, match=r"dataset: expected labels .* to train on, got labels of tokens"):
        run(raw, console)
