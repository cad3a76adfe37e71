"""The schema of a run: what it takes, what it refuses and in which words, and what the training key depends on."""

from __future__ import annotations

import itertools

import pytest
from support import Compose, compose

from ncexp.config import ConfigError, Keep, check


@pytest.mark.slow
def test_run_config_name_and_directory_are_readable(composed: Compose) -> None:
    config = check(composed())
    assert config.name == "gaussian_mixture-mlp-mse_lr0.0184202_seed0"
    assert config.directory.name == f"{config.name}_{config.key}"


def test_run_config_always_evaluates_the_last_epoch(composed: Compose) -> None:
    assert check(composed("epochs=5")).evaluated == [1, 2, 4, 5]
    assert check(composed("epochs=3")).evaluated == [1, 2, 3]


@pytest.mark.parametrize("kind", ["snapshots", "checkpoints"])
def test_run_config_evaluates_an_epoch_whose_files_are_kept(composed: Compose, kind: str) -> None:
    config = check(composed(f"keep.{kind}=[3,5]"))
    assert config.evaluated == [1, 2, 3, 4, 5, 6]
    assert [epoch for epoch in config.evaluated if config.keep.keeps(kind, epoch, 6)] == [3, 5]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "kept"), [("last", [6]), ("evaluated", [1, 2, 3, 4, 5, 6]), ("zero_error", [4, 6]), ([2, 3], [2, 3])]
)
def test_keep_says_of_which_epochs_files_are_kept(chosen: str | list[int], kept: list[int]) -> None:
    keep = Keep(snapshots="evaluated", checkpoints=chosen)  # type: ignore[arg-type]
    assert [epoch for epoch in range(1, 7) if keep.keeps("checkpoints", epoch, last=6, zero_error=4)] == kept
    assert keep.keeps("snapshots", 1, last=6)


@pytest.mark.slow
def test_sweep_han2022_measures_robustness_and_keeps_the_weights_for_it() -> None:
    """Of the zero-error epoch and the last."""
    config = check(compose("config", ["sweep=han2022", "experiment=han2022/mnist_resnet"]))
    assert config.analyses.keys() == {"collapse", "decisions", "decomposition", "central_path", "robustness"}
    assert config.keep == Keep(snapshots="evaluated", checkpoints="zero_error")
    assert config.key == check(compose("config", ["experiment=han2022/mnist_resnet"])).key


@pytest.mark.parametrize(
    "override", ["seed=1", "epochs=7", "batch_size=16", "precision=bf16", "compile=true", "optimizer.lr=0.1",
                 "optimizer.weight_decay=0.1", "optimizer.momentum=0.5", "optimizer=adam", "loss=cross_entropy",
                 "loss.scale=2.0", "dataset.separation=5.0", "dataset.examples_per_class=21",
                 "architecture.hidden=[16,9]", "architecture.batch_norm=false", "optimizer.schedule.factor=0.5",
                 "optimizer/schedule=constant"],
)  # fmt: skip
def test_key_changes_with_what_determines_the_weights(composed: Compose, override: str) -> None:
    assert check(composed(override)).key != check(composed()).key


@pytest.mark.parametrize(
    "override", ["analysis=[]", "analysis=[collapse,robustness]", "analysis.central_path.modes=3", "evaluate_at=[3]",
                 "keep.snapshots=last", "keep.checkpoints=evaluated", "keep.checkpoints=[3]", "outputs=elsewhere",
                 "rerun=all", "device=cpu", "tracking.enabled=false", "tracking.experiment=mine", "loss.name=other"]
)  # fmt: skip
def test_key_ignores_what_is_measured_and_where_it_runs(composed: Compose, override: str) -> None:
    assert check(composed(override)).key == check(composed()).key


def test_key_ignores_where_the_data_lie(composed: Compose) -> None:
    cifar = ["dataset=cifar10", "architecture=resnet"]
    keys = [check(composed(*cifar, f"dataset.root={root}", base=[])).key for root in ("here", "there", "null")]
    assert keys[0] == keys[1] == keys[2]
    assert check(composed(*cifar, "dataset.pad=32", base=[])).key != keys[0]


def test_key_counts_a_default_as_if_it_were_written(composed: Compose) -> None:
    raw = composed()
    del raw["optimizer"]["momentum"]
    assert check(raw).key == check(composed()).key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=-1", "optimizer.lr: expected a value greater than 0, got -1"),
        ("optimizer.lr=nan", "optimizer.lr: expected a finite number"),
        ("optimizer.lr=fast", "optimizer.lr: expected a number, got 'fast'"),
        (
            "+optimizer.lrr=1",
            "optimizer.lrr: no such key. Valid: decay_of, decoupled, lr, momentum, weight_decay. Did you mean lr?",
        ),
        ("+sede=1", "sede: no such key. Valid: .*seed.* Did you mean seed?"),
        ("epochs=2.5", "epochs: expected an integer, got 2.5"),
        ("epochs=0", "epochs: expected a value greater than or equal to 1, got 0"),
        ("seed=true", "seed: expected an integer, got True"),
        ("loss.scale=none", "loss.scale: expected a number, or '2/C', got 'none'"),
        ("keep.snapshots=none", "keep.snapshots: expected 'last' or 'evaluated', or a list, got 'none'"),
        ("keep.checkpoints=none", "keep.checkpoints: expected 'last', 'zero_error' or 'evaluated', or a list"),
        ("+keep.snapshot=last", "keep.snapshot: no such key. Valid: checkpoints, snapshots. Did you mean snapshots?"),
        ("keep=3", "keep: expected the keys snapshots, checkpoints, got 3."),
        ("tracking.enabled=maybe", "tracking.enabled: expected true or false, got 'maybe'."),
        ("keep.snapshots=[7]", "keep.snapshots: expected epochs of at most 6, got 7. Name others."),
        ("evaluate_at=[]", "evaluate_at: expected at least 1 item, got []."),
        ("+analysis_epochs=[1]", "analysis_epochs: no such key. Valid: .*evaluate_at"),
        ("rerun=never", "rerun: expected 'failed', 'all' or 'none', got 'never'"),
        ("device=gpu", "device: expected auto, cpu, cuda or cuda:k, got 'gpu'"),
        ("architecture.hidden=[3,0]", "architecture.hidden.1: expected a value greater than or equal to 1, got 0"),
        ("loss._target_=ncexp.training.losses.MES", "Valid: .*CrossEntropy.*MSE.* Did you mean MSE?"),
        ("loss._target_=nowhere.Loss", "No module named 'nowhere'"),
        ("loss._target_=null", "loss._target_: expected package.module.callable, got None"),
        ("loss.name=null", "loss.name: expected 1 to 64 letters"),
        ("architecture._target_=shutil.which", "lacks input_shape, num_classes"),
    ],
)
def test_config_refuses_with_what_would_be_right(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?").replace("[", r"\[").replace("]", r"\]")):
        check(composed(override))


def test_config_lists_every_fault_of_a_component_at_once(composed: Compose) -> None:
    with pytest.raises(ConfigError) as caught:
        check(composed("optimizer.lr=0", "optimizer.momentum=2"))
    assert "optimizer.lr" in str(caught.value)
    assert "optimizer.momentum" in str(caught.value)


def test_config_refuses_missing_groups_all_at_once(composed: Compose) -> None:
    raw = composed()
    del raw["loss"], raw["optimizer"]["schedule"]
    with pytest.raises(ConfigError) as caught:
        check(raw)
    assert str(caught.value).splitlines() == [
        "loss: expected a value, got none. Set loss=...",
        "optimizer.schedule: expected a value, got none. Set optimizer.schedule=...",
    ]


def test_long_run_is_evaluated_to_its_end_on_the_same_scale(composed: Compose) -> None:
    epochs = check(composed("epochs=3000", base=[])).evaluated
    assert epochs[:50] == check(composed(base=[])).evaluated
    assert epochs[49] == 350
    assert epochs[-1] == 3000
    ratios = [later / earlier for earlier, later in itertools.pairwise([320, *epochs[49:-1]])]
    assert ratios == pytest.approx([350 / 320] * len(ratios), abs=2e-3)  # of whole numbers above 320
