"""The paper's 15 cells and the sweeps over them: each composes, builds, and says what the protocol says."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
import yaml
from support import compose, measured, subject_of

from ncexp.config import RunConfig, check
from ncexp.config.composing import config_directory
from ncexp.datasets import Dataset, Split, images
from ncexp.training import assemble

CONF = config_directory()
DATASETS = ["mnist", "fashion_mnist", "cifar10", "svhn", "stl10"]
FAMILIES = ["vgg", "resnet", "densenet"]
CELLS = [f"{dataset}_{family}" for dataset, family in itertools.product(DATASETS, FAMILIES)]
#: The table of docs/protocol.md, a row per dataset: depth and learning rate of VGG, ResNet, DenseNet.
PROTOCOL = {
    "mnist": [("vgg11", 0.025519618), ("resnet18", 0.018420157), ("densenet40", 0.025519618)],
    "fashion_mnist": [("vgg11", 0.018420157), ("resnet18", 0.094015077), ("densenet250", 0.009596916)],
    "cifar10": [("vgg11", 0.025519618), ("resnet50", 0.009596916), ("densenet100", 0.048981924)],
    "svhn": [("vgg13", 0.018420157), ("resnet34", 0.009596916), ("densenet40", 0.013295740)],
    "stl10": [("vgg11", 0.018420157), ("resnet18", 0.067860440), ("densenet201", 0.001880302)],
}
EXAMPLES_PER_CLASS = {"mnist": 5000, "fashion_mnist": 6000, "cifar10": 5000, "svhn": 4600, "stl10": 500}
#: Of more features than this the numbers, which are any network's, are left out: half a minute of eigenvalues each.
WIDE = 1000
#: The values as they are written, with nine decimals.
GRID = [float(f"{1e-4 * 2500 ** (k / 24):.9f}") for k in range(25)]


@functools.cache  # Hydra takes a third of a second to compose one
def preset(cell: str, *overrides: str) -> RunConfig:
    return check(compose("config", [f"experiment=han2022/{cell}", *overrides]))


def sweep_params(name: str) -> dict[str, list[str]]:
    params = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    return {key: [value.strip() for value in str(values).split(",")] for key, values in params.items()}


def test_presets_are_the_papers_fifteen_cells():
    assert sorted(path.stem for path in (CONF / "experiment/han2022").glob("*.yaml")) == sorted(CELLS)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_preset_is_the_protocols(cell):
    dataset, family = cell.rsplit("_", 1)
    config = preset(cell)
    network, rate = PROTOCOL[dataset][FAMILIES.index(family)]
    assert (config.dataset.name, config.architecture.name) == (dataset, network)
    assert {"lr": rate, "momentum": 0.9, "weight_decay": 5e-4}.items() <= config.optimizer.options.items()
    assert (config.optimizer.options["decoupled"], config.optimizer.options["decay_of"]) == (0.0, None)
    assert config.loss.options == {"scale": "2/C"}
    assert (config.epochs, config.batch_size, len(config.evaluated)) == (350, 128, 50)
    assert [config.schedule.build(epochs=350)(e) for e in (116, 117, 233, 234)] == pytest.approx([1, 0.1, 0.1, 0.01])
    expected = {"examples_per_class": EXAMPLES_PER_CLASS[dataset], "standardize": "per_pixel", "label_noise": 0.0}
    assert expected.items() <= config.dataset.options.items()
    assert rate in GRID


@pytest.mark.slow
def test_keys_of_all_cells_differ():
    assert len({preset(cell).key for cell in CELLS}) == 15


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("han2022", {"experiment": [f"han2022/{cell}" for cell in CELLS], "loss": ["mse_mean", "cross_entropy"]}),
        ("learning_rates", {}),
    ],
)
def test_sweep_is_over_the_papers_grid(name, axes):
    params = sweep_params(name)
    assert [float(rate) for rate in params.pop("optimizer.lr")] == GRID
    assert params == axes


@pytest.mark.slow
def test_sweep_quick_is_three_networks_two_losses_three_rates():
    params = sweep_params("quick")
    assert [len(values) for values in params.values()] == [3, 2, 3]
    assert {float(rate) for rate in params["optimizer.lr"]} <= set(GRID)
    for experiment, loss in zip(params["experiment"], itertools.cycle(params["loss"])):
        assert check(compose("config", [f"experiment={experiment}", f"loss={loss}"])).dataset.name == "digits"


def generated_images(shape: tuple[int, ...], num_examples: int) -> Dataset:
    """Random images in place of the files; the test set is the training set."""
    inputs = torch.randn(num_examples, *shape, generator=torch.Generator().manual_seed(0))
    split = Split(inputs, torch.arange(num_examples) % 3)
    return Dataset(split, split, num_classes=3)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_preset_builds_and_trains_two_steps_at_full_image_size(cell, monkeypatch):
    config = preset(cell, "batch_size=3", "device=cpu")
    shape = (1 if "mnist" in cell else 3, *[96 if "stl10" in cell else 32] * 2)
    monkeypatch.setattr(images, "load", lambda **_: generated_images(shape, num_examples=6))
    assembly = assemble(config)
    training = assembly.training
    before = [parameter.detach().clone() for parameter in training.network.parameters()]
    summary = training.run_epoch(lambda: False)
    assert training.position.epoch == 2
    assert summary["fit/loss"] > 0
    assert not any(torch.equal(a, b) for a, b in zip(before, training.network.parameters(), strict=True))
    assert subject_of(assembly).ridge.weight == pytest.approx(3 * 5e-4 / 2)  # λ = C·wd/2
    if assembly.training.network.classifier.in_features > WIDE:
        return
    record = measured(assembly, config)
    terms = [record[f"train/mse/{name}"] for name in ("loss_nc1", "loss_nc23", "loss_ls_perp")]
    assert sum(terms) == pytest.approx(record["train/mse/loss"], rel=1e-6)  # the network computes in float32
