"""Combinations of a sweep that train the same weights are one run: it measures what any of them asks for."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Compose

from ncexp.cli.hydra_task import compose_and_work
from ncexp.config import ConfigError
from ncexp.config.composing import Composer
from ncexp.config.installed import config_directory, read_choice
from ncexp.launching.launcher import CheckedLauncher
from ncexp.launching.plan import Asked, check_all, note_on_optimizers
from ncexp.launching.task import check_task


@pytest.fixture(autouse=True)
def parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds, and are not meant here."""
    monkeypatch.setattr("ncexp.launching.plan.faults_of_parts", lambda asked: {})


@pytest.fixture
def check_sweep(composed: Compose) -> Any:
    def check(*combinations: list[str]) -> list[Asked]:
        return check_all([(list(words), composed(*words)) for words in combinations])

    return check


@pytest.mark.slow
def test_analyses_of_the_same_weights_are_merged(check_sweep: Any) -> None:
    both, other = check_sweep(
        ["analysis=[collapse]", "seed=1"],
        ["analysis=[decisions]", "seed=1"],
        ["analysis=[collapse]", "seed=2"],
        ["analysis=[collapse,decisions]", "seed=1"],
    )
    assert set(both.task.analyses) == set(both.task.raw["analysis"]) == {"collapse", "decisions"}
    assert both.overrides == ["analysis=[collapse]", "seed=1", "analysis=[decisions]"]
    assert set(other.task.analyses) == {"collapse"}
    assert both.task.key != other.task.key


def test_evaluated_epochs_of_the_same_weights_are_merged(check_sweep: Any) -> None:
    (merged,) = check_sweep(["evaluate_at=[1,3]"], ["evaluate_at=[3,2]"])
    assert merged.task.evaluated == [1, 2, 3, 6]
    assert merged.task.raw["evaluate_at"] == [1, 2, 3]


def test_equal_combinations_are_one_run(check_sweep: Any) -> None:
    (one,) = check_sweep(["optimizer.lr=0.1"], ["optimizer.lr=1e-1"])
    assert one.overrides == ["optimizer.lr=0.1"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("threads=1", "threads=2", "threads: expected one value for one run, got 1 and 2 of"),
        ("device=cpu", "device=auto", "device: expected one value for one run, got 'cpu' and 'auto' of"),
        ("rerun=all", "rerun=none", "rerun: expected one value for one run, got 'all' and 'none' of"),
        (
            "keep.checkpoints=last",
            "keep.checkpoints=evaluated",
            "keep.checkpoints: expected one value for one run, got 'last' and 'evaluated' of",
        ),
        ("tracking.enabled=true", "tracking.enabled=false", "tracking.enabled: expected one value for one run"),
        (
            "analysis.robustness.num_examples=5",
            "analysis.robustness.num_examples=6",
            "analysis.robustness.num_examples: expected one value for one run, got 5 and 6 of",
        ),
    ],
)
def test_combinations_that_contradict_each_other_are_refused(
    check_sweep: Any, first: str, second: str, message: str
) -> None:
    base = ["analysis=[robustness]"]
    with pytest.raises(ConfigError, match="nothing was begun; expected 2 runs that can be run") as refused:
        check_sweep([*base, first], [*base, second])
    assert f"{second}\n    {message}" in str(refused.value)


def test_several_optimizers_by_default_are_said(composed: Compose) -> None:
    def note(*swept: list[str]) -> str:
        return note_on_optimizers(check_all([(words, composed(*words, base=["epochs=1"])) for words in swept]))

    both = note(["loss=mse_mean"], ["loss=mse"], ["loss=cross_entropy"])
    assert both.startswith("optimizer adam in 2, sgd in 1 of 3 runs, each by its own default")
    assert note(["loss=mse"], ["loss=cross_entropy"]) == ""
    assert note(["optimizer=sgd", "loss=mse"], ["optimizer=adam", "loss=mse"]) == ""
    assert note(["experiment=quick/vgg"], ["experiment=decay"]) == ""


# A preset of several grids

GRIDS = """\
# @package _global_
hydra:
  mode: MULTIRUN
  sweeper:
    params: {loss: "mse, cross_entropy"}
    grids:
      - {optimizer.lr: "0.1, 0.2"}
      - {optimizer.lr: 0.1, seed: "1, 2"}
      - {seed: "1, 0"}
"""


@pytest.fixture
def asked_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """The words of a command, with a preset `mine` → the configurations of the sweep that it would begin."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(sys, "argv", ["ncexp"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "choices" / "sweep").mkdir(parents=True)

    def prepare(self: CheckedLauncher, combinations: list[list[str]]) -> Any:
        composer = Composer(self._context.config_loader, self._config)
        found.extend(one.task.raw for one in check_all([(words, composer.compose(words)) for words in combinations]))
        raise ConfigError("looked at")

    monkeypatch.setattr(CheckedLauncher, "prepare", prepare)

    def asked(*words: str, preset: str = GRIDS) -> list[dict[str, Any]]:
        found.clear()
        (tmp_path / "choices" / "sweep" / "mine.yaml").write_text(preset)
        with pytest.raises(ConfigError, match="looked at"):
            compose_and_work("config", ["--config-dir", "choices", *words])
        return found

    return asked


def test_grids_are_products_each_and_a_run_of_two_is_one(asked_of: Any) -> None:
    small = ["dataset=gaussian_mixture", "architecture=mlp", "optimizer=sgd"]
    usual = read_choice("optimizer", "sgd")["lr"]
    of = asked_of("sweep=mine", *small)
    found = Counter((one["loss"]["name"], one["optimizer"]["lr"], one["seed"]) for one in of)
    pairs = {(0.1, 0), (0.2, 0), (0.1, 1), (0.1, 2), (usual, 1), (usual, 0)}
    assert found == Counter({(loss, *pair): 1 for loss in ("mse", "cross_entropy") for pair in pairs})
    # Words of the command hold in every grid.
    of = asked_of("sweep=mine", *small, "loss=mse", "seed=7")
    assert Counter((one["optimizer"]["lr"], one["seed"]) for one in of) == Counter(
        {(0.1, 7): 1, (0.2, 7): 1, (usual, 7): 1}
    )


def test_grid_that_is_no_mapping_is_refused(asked_of: Any) -> None:
    asked_of("sweep=mine", "dataset=gaussian_mixture", "architecture=mlp")  # writes the file
    Path("choices/sweep/mine.yaml").write_text(GRIDS.replace('{seed: "1, 0"}', "seed=1"))
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.grids: expected a list of \{KEY: .* got 'seed=1' in it"):
        compose_and_work("config", ["--config-dir", "choices", "sweep=mine"])


def test_grids_are_refused_in_a_search(asked_of: Any, tmp_path: Path) -> None:
    asked_of("sweep=mine", "dataset=gaussian_mixture", "architecture=mlp")
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.grids: expected none in a search, got 3"):
        compose_and_work("config", ["--config-dir", "choices", "sweep=mine", "hydra/sweeper=optuna"])


@pytest.mark.slow
def test_sweep_of_fashion_mnist_at_full_size_has_the_runs_of_its_page(asked_of: Any) -> None:
    summary = json.loads((Path(__file__).parents[2] / "docs" / "summaries" / "fashion_mnist_full.json").read_text())
    keys = [check_task(raw).key for raw in asked_of("sweep=fashion_mnist_full")]
    assert len(keys) == len(set(keys))
    assert f"{len(keys)} runs" in (config_directory() / "sweep" / "fashion_mnist_full.yaml").read_text()
    assert {run["key"] for run in summary} <= set(keys)
