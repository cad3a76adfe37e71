"""The quick composition against Hydra's own, override by override."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from support import compose

from ncexp.config import ConfigError
from ncexp.config.composing import Composer, as_mapping, compose_mapping, composing, config_directory

#: Files and values, in orders that matter: a value before the file it belongs to, the same value twice, a new key.
OVERRIDES = [
    [],
    ["loss=cross_entropy", "optimizer.lr=0.05"],
    ["optimizer.lr=0.05", "optimizer=adamw"],
    ["optimizer=adamw", "optimizer.lr=0.05", "optimizer.lr=0.06"],
    ["architecture=mlp", "architecture.hidden=[3,4]", "dataset=gaussian_mixture", "seed=4"],
    ["+architecture.wished=1", "analysis=[collapse]"],
    ["architecture.depth=14", "optimizer.lr=0.05"],
    ["~optimizer.momentum", "tracking={enabled: false, uri: null, experiment: x}"],
]


@pytest.fixture
def loader_and_master() -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_composition_is_hydras(loader_and_master: Any, overrides: list[str]) -> None:
    loader, master = loader_and_master
    composer = Composer(loader, master)
    composer.compose(["seed=7", "optimizer.lr=1.0"])  # an earlier run leaves nothing behind
    with composing(overrides):
        composed = loader.load_sweep_config(master, overrides)
    theirs = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    assert composer.compose(overrides) == as_mapping(theirs, overrides)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("config", ["loss=cross_entropy", "optimizer=adamw", "optimizer.lr=0.05"]),
        ("measure", ["run=outputs/a", "analysis=[collapse,robustness]", "analysis.robustness.num_examples=5"]),
        ("simulate", []),
        ("simulate", ["simulation=central_path", "simulation.num_classes=3", "seed=1", "tracking.enabled=false"]),
        ("checkpoints", ["checkpoints=a/*.pt", "dataset=digits", "architecture=resnet", "loss=mse", "optimizer=adamw"]),
    ],
)
def test_composition_of_the_tests_is_that_of_the_command(name: str, overrides: list[str]) -> None:
    for given in (["+earlier=1", *overrides], overrides):  # an earlier run leaves nothing behind
        assert compose(name, given) == compose_mapping(name, given)


@pytest.mark.slow
def test_composition_refuses_what_hydra_refuses(loader_and_master: Any) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lrr: no such key\..*Did you mean lr\?"):
        Composer(*loader_and_master).compose(["optimizer.lrr=1"])
