"""The optimizer of a command that chooses none: sgd_digits for the main job alone, adam for everything else."""

from __future__ import annotations

import pytest
from support import compose

from ncexp.cli.shell_completion import candidates

#: Of `ncexp` as 0.2.0 named it: the reference `main` is of this run.
MAIN = "digits-resnet-mse_mean_lr0.25_seed0_"
DIGITS = ("sgd", 0.25, 2e-3)
ADAM = ("adam", 1e-3, 5e-4)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", DIGITS),
        ("loss=mse_mean architecture=resnet seed=3 epochs=7 dataset.label_noise=0.1 regime=on_path", DIGITS),
        ("optimizer.lr=0.1", ("sgd", 0.1, 2e-3)),
        ("loss=mse", ADAM),
        ("loss=cross_entropy optimizer.lr=0.02", ("adam", 0.02, 5e-4)),
        ("architecture=torchvision architecture.model=resnet18", ADAM),
        ("dataset=gaussian_mixture architecture=mlp", ADAM),
        ("architecture=mlp optimizer=sgd_digits", DIGITS),
        ("loss=mse optimizer=sgd", ("sgd", 0.094015077, 5e-4)),
        ("optimizer=adamw", ("adamw", 1e-3, 1e-2)),
        ("experiment=quick/vgg loss=mse", ("sgd", 0.25, 5e-4)),
        ("sweep=learning_rates", DIGITS),
    ],
)  # fmt: skip
def test_default_follows_from_dataset_network_and_loss(words: str, expected: tuple[str, float, float]) -> None:
    options = compose("config", words.split())["optimizer"]
    assert (options["name"], options["lr"], options["weight_decay"]) == expected


def test_schedule_is_chosen_beside_a_default_optimizer() -> None:
    assert compose("config", ["loss=mse", "optimizer/schedule=cosine"])["optimizer"]["schedule"]["name"] == "cosine"


@pytest.mark.parametrize("words", ["", "loss=mse", "loss=mse optimizer=sgd", "experiment=quick/vgg loss=mse"])
def test_shell_completion_knows_the_default(words: str) -> None:
    options = compose("config", words.split())["optimizer"]
    offered = candidates(f"ncexp {words} optimizer.".replace("  ", " "))
    assert offered == sorted(
        f"optimizer.{name}{'.' if name == 'schedule' else '='}" for name in options if name != "_target_"
    )
