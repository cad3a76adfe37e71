"""`ncexp prepare`: download, check and decode a dataset where there is a network; runs never download."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ncexp.config import SUPPLIED, Component, config_directory


def main(arguments: list[str]) -> int:
    """Prepare what the overrides choose and print what there is; answers 0, or 2 where it is not to be had."""
    parser = argparse.ArgumentParser(
        prog="ncexp prepare",
        description="Download, check and decode a dataset, so that runs find it: once, where there is a network.",
        epilog="Example: ncexp prepare dataset=cifar10 dataset.root=/scratch/data",
    )
    parser.add_argument("overrides", nargs="+", metavar="dataset=NAME", help="the choice, and options of it by path")
    overrides = parser.parse_args(arguments).overrides
    try:
        answer = _prepare(overrides)
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        print(f"ncexp: {error}", file=sys.stderr)
        return 2
    for name, value in answer.items():
        print(f"{name:<24} {value}")
    return 0


def _prepare(overrides: list[str]) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        chosen = OmegaConf.to_container(compose("config", overrides=overrides).dataset, resolve=True)
    from ncexp.datasets.prepare import prepare  # torch takes two seconds: not for --help

    return prepare(Component.check("dataset", chosen, SUPPLIED["dataset"]))
