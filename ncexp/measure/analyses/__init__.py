"""conf/analysis: each reads an evaluated split and yields (family/quantity, value)."""

from ncexp.measure.analyses.from_examples import Decisions, RobustnessAnalysis
from ncexp.measure.analyses.from_statistics import (
    CentralPathAnalysis,
    LayerwiseCollapse,
    LossAndError,
    MSEDecompositionAnalysis,
    NeuralCollapse,
)
from ncexp.measure.analyses.geometry import Geometry

__all__ = [
    "CentralPathAnalysis",
    "Decisions",
    "Geometry",
    "LayerwiseCollapse",
    "LossAndError",
    "MSEDecompositionAnalysis",
    "NeuralCollapse",
    "RobustnessAnalysis",
]
