"""Everything between Hydra and a checked configuration: components, four schemas, and (`composing`) Hydra itself."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.config.checkpoints import CheckpointsConfig, check_checkpoints, stored_run
from ncexp.config.components import (
    ADDED,
    INCIDENTAL,
    Component,
    ConfigError,
    Count,
    Fraction,
    NonNegative,
    Positive,
    Precision,
    Regime,
    Seed,
    Width,
    labels_of,
    nearest,
)
from ncexp.config.measurement import MeasureConfig, SimulationConfig, check_measurement, check_simulation
from ncexp.config.names import FAMILIES, family_of
from ncexp.config.run import Keep, RunConfig, check, check_analyses, check_outputs
from ncexp.config.steps import Steps
