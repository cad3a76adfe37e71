"""The schema of `ncexp simulate`: the choice of the group `simulation`, a seed, and where and how it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from ncexp.config.components import Component, Seed, choice, digest, read
from ncexp.config.names import Folder
from ncexp.config.run import Tracking

#: The folder beside the trainings of an outputs folder in which simulations lie, by the same rules.
SIMULATIONS = "simulations"


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
