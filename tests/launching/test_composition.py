"""The quick composition against Hydra's own, override by override."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from ncexp.config import config_directory
from ncexp.launching.composition import Composer, plain

#: Files and values, in orders that matter: a value before the file it belongs to, the same value twice, a new key.
OVERRIDES = [
    [],
    ["loss=cross_entropy", "optimizer.lr=0.05"],
    ["optimizer.lr=0.05", "optimizer=adamw"],
    ["optimizer=adamw", "optimizer.lr=0.05", "optimizer.lr=0.06"],
    ["architecture=mlp", "architecture.hidden=[3,4]", "dataset=gaussian_mixture", "seed=4"],
    ["+architecture.wished=1", "analysis=[neural_collapse]"],
    ["~optimizer.momentum", "tracking={enabled: false, uri: null, experiment: x}"],
]


@pytest.fixture
def loader_and_master() -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_composition_is_hydras(loader_and_master: Any, overrides: list[str]) -> None:
    loader, master = loader_and_master
    composer = Composer(loader, master)
    composer.compose(["seed=7", "optimizer.lr=1.0"])  # an earlier run leaves nothing behind
    composed = loader.load_sweep_config(master, overrides)
    theirs = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    assert composer.compose(overrides) == plain(theirs)


def test_composition_refuses_what_hydra_refuses(loader_and_master: Any) -> None:
    with pytest.raises(HydraException):
        Composer(*loader_and_master).compose(["optimizer.lrr=1"])
