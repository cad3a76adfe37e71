"""What the words of a search mean, and which are refused before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scripted_search import WORDS, Scripted, scripted_search

from ncexp.config import ConfigError
from ncexp.launching.search import distribution, grid_of


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return scripted_search(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=interval(1e-3,1)", FloatDistribution(1e-3, 1.0)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,interval(1e-5,1e-1))", FloatDistribution(1e-5, 1e-1, log=True)),
        ("a=tag(log,int(interval(1,8)))", IntDistribution(1, 8, log=True)),
        ("a=choice(x,y)", CategoricalDistribution(["x", "y"])),
        ("a=x,[1,2]", CategoricalDistribution(["x", "[1,2]"])),
        ("a=range(1,9,2)", IntDistribution(1, 7, step=2)),
        ("a=range(0.25,1.5,0.5)", FloatDistribution(0.25, 1.25, step=0.5)),
    ],
)
def test_words_are_what_users_of_hydras_plugin_know(word: str, expected: Any) -> None:
    assert distribution(OverridesParser.create().parse_override(word)) == expected


def test_range_of_a_grid_has_the_values_that_hydra_sweeps() -> None:
    override = OverridesParser.create().parse_override("a=range(0.1,0.6,0.1)")
    swept = [float(value) for value in override.sweep_string_iterator()]
    assert grid_of({"a": distribution(override)})["a"] == pytest.approx(swept)


REFUSED = {
    "objective: expected what the search looks for": (["objective=null", *WORDS], {}),
    "objective: expected a quantity or package.module.function, got 'test/eror'. .* Did you mean test/error": (
        ["objective=test/eror", *WORDS], {}),
    "objective: expected an importable package.module.callable": (["objective=no.such.function", *WORDS], {}),
    r"Of several objectives it is objective=\[test/error,train/error\]": (
        ["objective=test/error,train/error", *WORDS], {}),
    "direction: expected one for each of 1 objectives, got 2": (["direction=[minimize,maximize]", *WORDS], {}),
    "direction: expected 'minimize' or 'maximize', or a list, got 'down'": (["direction=down", *WORDS], {}),
    "direction: expected minimize or maximize for test/loss, got none": (["objective=test/loss", *WORDS], {}),
    "direction: expected one, got maximize and hydra.sweeper.direction=minimize": (
        ["direction=maximize", *WORDS], {"direction": "minimize"}),
    "optimizer.lrr: no such key. .* Did you mean lr": (["optimizer.lrr=interval(0.1,1)"], {}),
    "optimizer.lr: expected a value greater than 0, got -1": (["optimizer.lr=interval(-1,1)"], {}),
    "epochs: expected an integer, got 1.0": (["epochs=interval(1,3)"], {}),
    "threads: expected one value for one run, got 1 and 2": (["threads=1,2"], {}),
    r"lr: expected bounds that can be searched, got interval\(1,0.1\)": (["optimizer.lr=interval(1,0.1)"], {}),
    r"batch_size: expected bounds that can be searched, got range\(5,1\)": (["batch_size=range(5,1)"], {}),
    r"expected tag\(log,interval": (["optimizer.lr=tag(x,interval(0.1,1))"], {}),
    "expected a key to search, got none": (["optimizer.lr=0.1"], {}),
    "hydra.sweeper.n_trials: expected a value greater than or equal to 1, got 0": (WORDS, {"n_trials": 0}),
    "hydra.sweeper.n_jobs: expected a value greater than or equal to 1, got 0": (WORDS, {"n_jobs": 0}),
    "hydra.sweeper.max_failure_rate: expected a value less than or equal to 1, got 2": (WORDS, {"max_failure_rate": 2}),
    "hydra.sweeper.sampler: expected 'tpe', 'random', 'grid' or 'cmaes', got 'tpee'": (WORDS, {"sampler": "tpee"}),
    "hydra.sweeper.pruner: expected 'median' or 'successive_halving', got 'medan'": (WORDS, {"pruner": "medan"}),
    "hydra.sweeper.pruner: expected one objective, got 2": (
        ["objective=[test/error,train/error]", *WORDS], {"pruner": "median"}),
    "optimizer.lr: expected values for sampler=grid, got an interval": (WORDS, {"sampler": "grid"}),
    "sampler=cmaes: expected an interval or range, got lists": (["loss=mse,cross_entropy"], {"sampler": "cmaes"}),
    "sampler=cmaes: expected one objective, got 2": (
        ["objective=[test/error,train/error]", *WORDS], {"sampler": "cmaes"}),
    "hydra.sweeper.study_name: expected 1 to 64 letters": (WORDS, {"study_name": "a/b"}),
}  # fmt: skip


@pytest.mark.parametrize("expected", REFUSED)
def test_bad_search_is_refused_before_anything_is_written(start: Any, tmp_path: Path, expected: str) -> None:
    words, options = REFUSED[expected]
    with pytest.raises(ConfigError, match=expected):
        start(*words, **options)
    assert not [*tmp_path.iterdir()]


def test_cmaes_without_its_package_is_refused(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(ConfigError, match=r"sampler=cmaes: expected its package, got none\. pip install cmaes"):
        start(*WORDS, sampler="cmaes")


def test_launcher_that_does_not_wait_is_refused(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Scripted, "waits", False)
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.wait: expected true"):
        start()
