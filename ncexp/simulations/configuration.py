"""The schema of a simulation: the key `simulation` with its component, a seed, and where and how it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ncexp.config import Component, ConfigError, nearest
from ncexp.run_directory import SIMULATIONS

#: What a simulation is told besides its own options.
USED = ("simulation", "seed", "outputs", "rerun", "tracking")
#: What describes a training; conf/experiment files of simulations set these to null.
UNUSED = (
    "dataset",
    "architecture",
    "loss",
    "optimizer",
    "analysis",
    "epochs",
    "batch_size",
    "precision",
    "compile",
    "analysis_epochs",
    "device",
)


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Everything about one simulation; its component and seed are hashed into `key`. MLflow hears nothing of it."""

    simulation: Component
    seed: int
    #: Folder under which simulations/ lies.
    outputs: Path
    #: all: simulate anew what is there; anything else: show it.
    rerun: str
    #: The plain nested mapping this was read from, without the keys of trainings.
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """Ten hexadecimal digits of the hash of what determines the result."""
        identity = {"simulation": self.simulation.identity(), "seed": self.seed}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """Readable words: ``central_path_seed0``."""
        return f"{self.simulation.name}_seed{self.seed}"

    @property
    def directory(self) -> Path:
        """Where it lies: in a folder beside the trainings, which it must not be compared with."""
        return self.outputs / SIMULATIONS / f"{self.name}_{self.key}"


def check_simulation(raw: Mapping[str, Any]) -> SimulationConfig:
    """The plain nested mapping of a composed configuration with the key `simulation` → a SimulationConfig.

    Raises ConfigError: an unknown key, an option of trainings, a value that the simulation's target does not take.
    """
    for name, value in raw.items():
        if name not in (*USED, *UNUSED):
            raise ConfigError(f"{name}: no such key. {nearest(name, list(USED))}")
        if name in UNUSED and value is not None:
            raise ConfigError(f"{name}: expected null, as a simulation trains nothing, got {value!r}. Leave it out.")
    seed, outputs, rerun = (raw.get(name) for name in ("seed", "outputs", "rerun"))
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed: expected an integer greater than or equal to 0, got {seed!r}.")
    if not isinstance(outputs, str) or not outputs:
        raise ConfigError(f"outputs: expected a folder, got {outputs!r}.")
    if rerun not in ("failed", "all", "none"):
        raise ConfigError(f"rerun: expected 'failed', 'all' or 'none', got {rerun!r}.")
    return SimulationConfig(
        simulation=Component.check("simulation", raw["simulation"], ("seed",)),
        seed=seed,
        outputs=Path(outputs).absolute(),
        rerun=rerun,
        raw={name: raw[name] for name in USED if name in raw and name != "tracking"},
    )
