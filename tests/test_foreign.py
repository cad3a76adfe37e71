"""Other people's networks and trainings, from the command to the figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import by_hand
import foreign_networks
import numpy as np
import plain_training
import pytest
import torch
from rich.console import Console
from support import Compose, compose, journals, slow
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torchvision import models

from ncexp.config import check
from ncexp.config.composing import REFUSALS, explain
from ncexp.datasets import digits
from ncexp.main import measure_checkpoints, run
from ncexp.measure.evaluation import CHECKED_EXAMPLES
from ncexp.record import RunDirectory, load, read_run

#: A hundred grey images of 8×8 pixels to train on.
DIGITS = ["dataset=digits", "dataset.examples_per_class=10", "loss=mse", "optimizer.lr=0.01", "tracking.enabled=false"]
TRAINED = [*DIGITS, "epochs=1", "batch_size=50", "analysis=[collapse,decomposition,layers]"]
RESNET = ["architecture=torchvision", "architecture.model=resnet18"]
THEIRS = ["architecture=module", "architecture.factory=foreign_networks.make"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Gets the path of each run whose figures would be drawn; that takes seconds."""
    paths: list[Path] = []

    def note(directory: RunDirectory) -> list[str]:
        paths.append(directory.path)
        return []

    monkeypatch.setattr("ncexp.report.run.draw_run", note)
    return paths


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_network_of_ones_own_function_is_trained_and_measured_like_our_own(composed: Compose, console: Console) -> None:
    raw = composed(*THEIRS, "analysis.layers.modules=[model.body]", base=TRAINED)
    assert run(raw, console) == "completed"
    directory = RunDirectory(check(raw).directory)
    assert directory.path.name.startswith("digits-foreign_networks.make-mse_lr0.01_seed0_")
    (record,) = read_run(directory.path).records
    assert record["train/mse/identity_residual"] < 1e-12
    assert "train/layers/model.body/nc1_ratio" in record
    facts = json.loads(directory.facts.read_text())
    assert (facts["last_layer"], facts["grey_images"], facts["num_features"]) == ("head", "repeated in 3 channels", 16)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    said = "the features are the inputs of its layer head; grey images are repeated in 3 channels"
    assert f"network   foreign_networks.make: {said}" in printed


def test_choice_that_lacks_its_name_is_explained(composed: Compose) -> None:
    with pytest.raises(REFUSALS) as refused:
        composed("architecture=torchvision", base=TRAINED)
    assert explain(refused.value) == "architecture.model: expected a value, got none. Set architecture.model=..."


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_torchvision_model_is_trained_and_measured_like_our_own(composed: Compose, console: Console) -> None:
    raw = composed(*RESNET, "analysis.layers.modules=[model.layer2]", base=TRAINED)
    assert run(raw, console) == "completed"
    directory = RunDirectory(check(raw).directory)
    assert directory.path.name.startswith("digits-torchvision_resnet18-mse_lr0.01_seed0_")
    (record,) = read_run(directory.path).records
    assert record["train/mse/identity_residual"] < 1e-12
    assert "train/layers/model.layer2/nc1_ratio" in record


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_timm_model_trains(composed: Compose, console: Console) -> None:
    pytest.importorskip("timm")
    raw = composed(
        "architecture=timm", "architecture.model=vit_tiny_patch16_224", "+architecture.img_size=8",
        "+architecture.patch_size=4", "+architecture.embed_dim=48", "+architecture.depth=1", "analysis=[collapse]",
        base=TRAINED,
    )  # fmt: skip
    assert run(raw, console) == "completed"
    assert RunDirectory(check(raw).directory).path.name.startswith("digits-timm_vit_tiny_patch16_224-mse")
    assert journals(check(raw).directory)


#: What the plain training of tests/helpers/plain_training.py was: digits as they are, torch.nn.MSELoss(), decay 5e-4.
PLAIN = [
    "dataset=digits", "dataset.standardize=none", "loss=mse_mean", "optimizer.weight_decay=5e-4",
    "tracking.enabled=false",
]  # fmt: skip
RIDGE = 10 * 5e-4 / 2  # λ = C · wd/2
#: Sums in another order, float64; the decomposition solves systems of condition 1e6.
TOLERANCE = 1e-9
#: The same network in another memory layout and in batches of another size, float32.
FLOAT32 = 1e-3


@pytest.fixture
def measuring(outputs: Path) -> Compose:
    """compose("checkpoints='ckpts/*.pt'", ...) → the plain configuration of `ncexp measure checkpoints=...`."""
    return lambda *overrides: compose("checkpoints", [*PLAIN, f"outputs={outputs}", *overrides])


@contextmanager
def inputs_of_last_layers() -> Iterator[list[torch.Tensor]]:
    """Whatever any linear layer of ten outputs is given meanwhile, by a hook of the test's own."""
    seen: list[torch.Tensor] = []

    def note(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if isinstance(layer, nn.Linear) and layer.out_features == 10 and len(given[0]) > 2:
            seen.append(given[0].clone())

    handle = register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "architecture", "last", "count"),
    [
        (lambda: foreign_networks.make(10), THEIRS, "head", 10),
        slow(lambda: models.resnet18(num_classes=10), RESNET, "fc", 3),
    ],
    ids=["small", "resnet18"],
)
def test_checkpoints_of_a_plain_training_give_the_numbers_of_numpy(
    make: Callable[[], nn.Module],
    architecture: list[str],
    last: str,
    count: int,
    measuring: Compose,
    console: Console,
    tmp_path: Path,
    drawn: list[Path],
) -> None:
    torch.manual_seed(0)
    model = make()
    plain_training.train(model, tmp_path / "ckpts", epochs=count)
    with inputs_of_last_layers() as seen:
        raw = measuring(f"checkpoints={tmp_path}/ckpts/*.pt", *architecture)
        assert measure_checkpoints(raw, console) == "completed"
    (run,) = load(raw["outputs"])
    assert [record["epoch"] for record in run.records] == list(range(1, count + 1))
    assert drawn == [run.path]
    dataset = digits.load(standardize="none")
    splits = {"train": dataset.train, "test": dataset.test}
    evaluated = [rows for rows in seen if len(rows) != CHECKED_EXAMPLES]
    features = iter(torch.cat(evaluated).split([len(split) for _ in range(count) for split in splits.values()]))
    for record in run.records:
        content = torch.load(tmp_path / f"ckpts/epoch_{record['epoch']:.0f}.pt", weights_only=True)
        model.load_state_dict(content["model_state_dict"])
        layer, means = model.get_submodule(last), None
        weight, bias = (parameter.detach().numpy() for parameter in (layer.weight, layer.bias))
        for name, split in splits.items():
            h, labels = next(features).double().numpy(), split.labels.numpy()
            means = np.stack([h[labels == c].mean(0) for c in range(10)]) if means is None else means
            expected = by_hand.quantities(h, labels, weight, bias, means, RIDGE)
            found = {key: record[f"{name}/{key}"] for key in expected if f"{name}/{key}" in record}
            assert len(found) >= len(expected) - 1  # the classifier's equinorm is of no split: it stands on train
            assert found == pytest.approx({key: expected[key] for key in found}, rel=TOLERANCE, abs=0)
            plain = plain_features(model, last, split.inputs)
            assert np.abs(plain - h).max() <= FLOAT32 * np.abs(h).max()


def plain_features(model: nn.Module, last: str, images: torch.Tensor) -> np.ndarray:
    """What the model itself gives its last layer, all grey images at once in three channels."""
    found: list[torch.Tensor] = []
    handle = model.get_submodule(last).register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.no_grad():
        model.eval()(images.repeat(1, 3, 1, 1))
    handle.remove()
    return found[0].double().numpy()
