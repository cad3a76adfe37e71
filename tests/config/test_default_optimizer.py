"""The optimizer of a command that chooses none: sgd_digits for the main job alone, adam for everything else."""

from __future__ import annotations

import pytest
from support import compose

from ncexp.config import check
from ncexp.config.installed import choices
from ncexp.training import assemble

#: Of targets are those that diabetes is trained with.
OF_TARGETS = ["squared_error", "squared_error_mean", "huber"]
LOSSES = [loss for loss in choices("loss") if loss not in OF_TARGETS]
#: They are refused with the default head.
OF_COSINES = ("normalized_softmax", "cosface", "arcface")
#: Of `ncexp` alone as it always was: the reference `main` is of this run.
MAIN = "digits-resnet-mse_mean_lr0.25_seed0_ad9fcf2f02"
DIGITS = ("sgd", 0.25, 2e-3)
ADAM = ("adam", 1e-3, 5e-4)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", DIGITS),
        ("loss=mse_mean architecture=resnet seed=3 epochs=7 dataset.label_noise=0.1 regime=on_path", DIGITS),
        ("optimizer.lr=0.1", ("sgd", 0.1, 2e-3)),
        ("architecture.name=mine", DIGITS),
        ("architecture.depth=20", ADAM),
        ("loss.scale=1.0", ADAM),
        ("+architecture.classifier=simplex_etf", ADAM),
        ("loss=mse", ADAM),
        ("loss=cross_entropy optimizer.lr=0.02", ("adam", 0.02, 5e-4)),
        ("architecture=torchvision architecture.model=resnet18", ADAM),
        ("dataset=gaussian_mixture architecture=mlp", ADAM),
        ("architecture=mlp optimizer=sgd_digits", DIGITS),
        ("loss=mse optimizer=sgd", ("sgd", 0.094015077, 5e-4)),
        ("optimizer=adamw", ("adamw", 1e-3, 1e-2)),
        ("experiment=quick/vgg loss=mse", ("sgd", 0.25, 5e-4)),
        ("sweep=learning_rates", DIGITS),
        ("dataset=diabetes", ADAM),
    ],
)  # fmt: skip
def test_default_follows_from_dataset_network_and_loss(words: str, expected: tuple[str, float, float]) -> None:
    assert compose("config", [*words.split(), "optimizer/schedule=cosine"])["optimizer"]["schedule"]["name"] == "cosine"
    options = compose("config", words.split())["optimizer"]
    assert (options["name"], options["lr"], options["weight_decay"]) == expected


def test_main_job_keeps_its_key() -> None:
    assert check(compose("config", [])).directory.name == MAIN


#: Deep networks begin with large features: the MSE, whose curvature grows with them, is what a rate fails at first.
NETWORKS = [(name, loss) for name in ("resnet", "mlp") for loss in LOSSES]
NETWORKS += [(name, "mse") for name in ("densenet40", "vgg11", "resnet18")]
NETWORKS += [("resnet architecture.width=64", "mse_mean")]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "loss"), NETWORKS)
def test_default_optimizer_trains(network: str, loss: str) -> None:
    """Sixty steps, twenty of them at the whole rate; docs/optimizers.md has the other networks."""
    few = ["epochs=3", "batch_size=10", "dataset.examples_per_class=20", "device=cpu"]
    few += ["architecture.head=hyperspherical"] if loss in OF_COSINES else []
    training = assemble(check(compose("config", [*f"architecture={network}".split(), f"loss={loss}", *few]))).training
    first, _, last = (training.run_epoch(lambda: False) for _ in range(3))  # a divergence is raised
    falls, by = ("fit/loss", 0.97) if loss == "supervised_contrastive" else ("fit/error", 0.9)  # its pairs are few
    assert last[falls] < by * first[falls]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dataset=diabetes", ("mlp", "squared_error")),
        ("dataset=linnerud loss=huber", ("mlp", "huber")),
        ("dataset=synthetic_regression architecture=densenet40", ("densenet40", "squared_error")),
        ("dataset=mnist", ("resnet", "mse_mean")),
        ("experiment=regression", ("mlp", "squared_error")),
    ],
)
def test_network_and_loss_follow_from_data_with_targets(words: str, expected: tuple[str, str]) -> None:
    config = compose("config", words.split())
    assert (config["architecture"]["name"], config["loss"]["name"]) == expected


@pytest.mark.slow
@pytest.mark.parametrize("loss", OF_TARGETS)
def test_default_optimizer_trains_a_regression(loss: str) -> None:
    training = assemble(
        check(compose("config", ["dataset=diabetes", f"loss={loss}", "batch_size=20", "device=cpu"]))
    ).training
    first, *_, last = (training.run_epoch(lambda: False)["fit/loss"] for _ in range(9))
    assert last < 0.7 * first
