"""The schema of `ncexp measure`: one stored run and the analyses to measure on what it kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ncexp.config.components import Component, ConfigError, digest, validated
from ncexp.config.names import Folder, is_file_name, shown
from ncexp.config.run import Device, check_analyses

#: The folder of a run in which a measuring of it keeps its state, log and job.
TASKS = "tasks"


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What to measure on one stored run; no analyses: those that the run was trained with."""

    run: Path
    analyses: dict[str, Component]
    device: str
    outputs: Path
    #: missing: measure the epochs that a journal lacks; all: measure every epoch anew.
    rerun: str
    #: The plain nested mapping this was read from.
    raw: dict[str, Any] = field(repr=False, compare=False)

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
        """Where this measuring, as opposed to the run, keeps its state and log."""
        return self.run / TASKS / f"measure_{self.key}"


class _Scalars(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    run: Folder
    device: Device
    outputs: Folder
    rerun: Literal["missing", "all"]


def check_measurement(raw: Mapping[str, Any]) -> MeasureConfig:
    """The plain nested mapping of a composed configuration → a MeasureConfig.

    Raises ConfigError: unknown or missing keys, wrong types, a faulty analysis, too many names for one directory.
    """
    scalars = validated("", _Scalars, {key: value for key, value in raw.items() if key != "analysis"}, {"analysis"})
    config = MeasureConfig(
        run=Path(os.path.realpath(scalars["run"])),  # a sweep names its runs by links
        analyses=check_analyses(raw.get("analysis")),
        device=scalars["device"],
        outputs=Path(scalars["outputs"]).absolute(),
        rerun=scalars["rerun"],
        raw=dict(raw),
    )
    # A sweep links to it by its number, name and key.
    if not is_file_name(f"0000_{config.name}_{config.key}"):
        raise ConfigError(
            f"analysis: expected names that make a file's name together with the run's, got {shown(config.name)}. "
            "Measure fewer of them at a time."
        )
    return config
