"""What the tests share: a composed configuration, small enough to train in a second."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from support import SMALL, Compose

from ncexp.config import config_directory


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def composed(outputs: Path) -> Compose:
    """compose("loss=cross_entropy", ...) → the plain configuration of a small run under a temporary outputs folder."""

    def build(*overrides: str, base: list[str] = SMALL) -> dict[str, Any]:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
            config = compose("config", overrides=[*base, f"outputs={outputs}", *overrides])
        plain: Any = OmegaConf.to_container(config, resolve=True)
        return {key: value for key, value in plain.items() if key not in ("experiment", "sweep")}

    return build


@pytest.fixture
def console() -> Console:
    """A console whose output is read with `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=120, highlight=False)
