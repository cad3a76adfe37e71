"""The schemas of what trains nothing: `ncexp measure`, of a stored run and analyses, and `ncexp simulate`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ncexp.config.components import Component, ConfigError, Seed, choice, digest, read
from ncexp.config.names import Folder, is_file_name, shown
from ncexp.config.run import Analyses, Device, RunConfig, Tracking

#: The folder beside the trainings of an outputs folder in which simulations lie, by the same rules.
SIMULATIONS = "simulations"


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What to measure on one stored run; no analyses: those that the run was trained with."""

    run: Folder
    analyses: Analyses
    device: Device
    outputs: Folder
    #: missing: measure the epochs that a journal lacks; all: measure every epoch anew.
    rerun: Literal["missing", "all"]
    #: The nested mapping this was read from.
    raw: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of_run(cls, config: RunConfig) -> MeasureConfig:
        """What the configuration of a training asks for, as far as it is missing."""
        return cls(
            run=config.directory, analyses=config.analyses, device=config.device, outputs=config.outputs,
            rerun="missing", raw={},
        )  # fmt: skip

    @property
    def key(self) -> str:
        """Ten hexadecimal digits of the hash of the run and of what is measured on it."""
        return digest({"run": self.run.name, "analyses": {name: one.key for name, one in self.analyses.items()}})

    @property
    def name(self) -> str:
        """Readable words: ``digits-resnet-mse_lr0.05_seed0_0123456789-layers-robustness``."""
        return "-".join([self.run.name, *sorted(self.analyses)])

    @property
    def directory(self) -> Path:
        """Where this measuring, as opposed to the run, keeps its state, log and job."""
        return self.run / "tasks" / f"measure_{self.key}"


def check_measurement(raw: Mapping[str, Any]) -> MeasureConfig:
    """The nested mapping of a composed configuration → a MeasureConfig.

    Raises ConfigError: unknown or missing keys, wrong types, a faulty analysis, too many names for one directory.
    """
    config = read(MeasureConfig, raw)
    config = replace(config, run=Path(os.path.realpath(config.run)))  # a sweep names its runs by links
    # A sweep links to it by its number, name and key.
    if not is_file_name(f"0000_{config.name}_{config.key}"):
        raise ConfigError(
            f"analysis: expected names that make a file's name together with the run's, got {shown(config.name)}. "
            "Measure fewer of them at a time."
        )
    return config


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Everything about one simulation; its component and seed are hashed into `key`."""

    simulation: Annotated[Component, choice("simulation")]
    seed: Seed
    #: Folder under which simulations/ lies.
    outputs: Folder
    #: failed: simulate unless it is completed; all: simulate anew what is there.
    rerun: Literal["failed", "all"]
    tracking: Tracking
    #: The nested mapping this was read from.
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """Ten hexadecimal digits of the hash of what determines the result."""
        return digest({"simulation": self.simulation.identity(), "seed": self.seed})

    @property
    def name(self) -> str:
        """Readable words: ``central_path_seed0``."""
        return f"{self.simulation.name}_seed{self.seed}"

    @property
    def directory(self) -> Path:
        """Where it lies: in a folder beside the trainings, which it must not be compared with."""
        return self.outputs / SIMULATIONS / f"{self.name}_{self.key}"


def check_simulation(raw: Mapping[str, Any]) -> SimulationConfig:
    """The nested mapping of a composed configuration → a SimulationConfig.

    Raises ConfigError: an unknown or missing key, a value of the wrong type, one that the simulation does not take.
    """
    return read(SimulationConfig, raw)
