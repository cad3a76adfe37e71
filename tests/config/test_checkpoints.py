"""The configuration of `ncexp measure checkpoints=...`: what must be said, what is refused, what is in the key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from support import compose

from ncexp.cli.hydra_task import _as_it_is, measuring
from ncexp.config import CheckpointsConfig, ConfigError, check_checkpoints, stored_run
from ncexp.config.composing import REFUSALS, compose_mapping, explain

SAID = [
    "checkpoints='ckpts/*.pt'", "dataset=digits", "architecture=torchvision", "architecture.model=resnet18", "loss=mse",
    "optimizer.weight_decay=5e-4",
]  # fmt: skip
Configure = Callable[..., CheckpointsConfig]


@pytest.fixture
def configure() -> Configure:
    return lambda *overrides: check_checkpoints(compose("checkpoints", [*SAID, *overrides]))


def test_checkpoints_are_a_run_that_trains_nothing(configure: Configure) -> None:
    config = configure()
    unknown = (config.state, config.prefix, config.epoch, config.rate, config.seed)
    assert (config.pattern, {*unknown}) == ("ckpts/*.pt", {None})
    assert config.name == "digits-torchvision_resnet18-mse_checkpoints"
    assert config.run.optimizer.options["weight_decay"] == 5e-4
    assert sorted(config.run.analyses) == ["central_path", "collapse", "decisions", "decomposition"]
    assert "schedule" not in config.run.raw["optimizer"]
    assert not {"epochs", "batch_size", "precision"} & config.run.raw.keys()


def test_what_is_stored_is_read_as_it_was(configure: Configure) -> None:
    config = configure("optimizer.lr=0.1", "seed=2")
    stored = yaml.safe_load(yaml.safe_dump(config.run.raw))
    assert check_checkpoints(stored) == config
    assert stored_run(stored) == config.run


@pytest.mark.parametrize(
    "override", ["analysis=[robustness]", "device=cpu", "keep.checkpoints=evaluated", "checkpoints='elsewhere/*.pt'",
                 "checkpoint.epoch=global_step"]
)  # fmt: skip
def test_key_ignores_what_changes_no_number(configure: Configure, override: str) -> None:
    assert configure(override).key == configure().key


@pytest.mark.parametrize(
    "override", ["optimizer.weight_decay=1e-4", "loss=mse_mean", "dataset.standardize=none",
                 "architecture.model=resnet34", "checkpoint.key=ema", "checkpoint.prefix=net.",
                 "+architecture.freeze=model.fc.*"]
)  # fmt: skip
def test_key_changes_with_what_determines_the_numbers(configure: Configure, override: str) -> None:
    assert configure(override).key != configure().key


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("dataset=digits", "dataset"),
        ("loss=mse", r"^loss: expected a choice, got none\. `ncexp list loss` shows"),
        ("optimizer.weight_decay=5e-4", r"optimizer\.weight_decay: expected that of the training .* got none"),
    ],
)
def test_what_that_training_was_must_be_said(lacking: str, message: str) -> None:
    with pytest.raises(REFUSALS) as refused:
        check_checkpoints(compose("checkpoints", [override for override in SAID if override != lacking]))
    assert re.search(message, explain(refused.value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["checkpoint.epoch='step_('"], r"checkpoint\.epoch: expected an entry of the file, or a regular expression"),
        (["checkpoint.epoch='step=.*'"], r"checkpoint\.epoch: expected an entry of the file, as global_step, or"),
        (["optimizer.lr=-1"], r"optimizer\.lr: expected a value greater than 0"),
        (["seed=-1"], "seed: expected"),
        (["rerun=failed"], "rerun: expected 'missing' or 'all', got 'failed'"),
        (["keep.snapshots=some"], r"keep\.snapshots"),
        (["+architecture.weights=a.pt"], r"architecture\.weights: expected none beside checkpoints=\.\.\., .* 'a\.pt'"),
    ],
)
def test_faults_are_refused_by_name(configure: Configure, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(*overrides)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("outputs", "RUN: expected none beside checkpoints=..., got outputs"),
        ("-m", "checkpoints: expected one set of files, measured here, got a sweep"),
        ("hydra/launcher=slurm", "checkpoints: expected one set of files, measured here, got a sweep"),
    ],
)
def test_command_refuses_runs_and_sweeps_beside_checkpoints(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measuring(["checkpoints=ckpts/*.pt", word])


def test_patterns_reach_hydra_in_quotes() -> None:
    words = [r"checkpoint.epoch=step_(\d+)", "checkpoints=a b/*.pt", "checkpoint.key=null", "checkpoint.key='x'"]
    quoted = [_as_it_is(word) for word in words]
    assert quoted == [r"checkpoint.epoch='step_(\d+)'", "checkpoints='a b/*.pt'", *words[2:]]
    said: dict[str, Any] = compose_mapping("checkpoints", [*SAID, *quoted[:2]])
    assert (said["checkpoint"]["epoch"], said["checkpoints"]) == (r"step_(\d+)", "a b/*.pt")
