"""conf/analysis: each reads an evaluated split and yields (family/quantity, value)."""

from ncexp.measure.analyses.central_path import CentralPathAnalysis
from ncexp.measure.analyses.collapse import NeuralCollapse
from ncexp.measure.analyses.decisions import Decisions
from ncexp.measure.analyses.decomposition import MSEDecompositionAnalysis
from ncexp.measure.analyses.errors import LossAndError
from ncexp.measure.analyses.geometry import Geometry
from ncexp.measure.analyses.layers import LayerwiseCollapse
from ncexp.measure.analyses.robustness import RobustnessAnalysis

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
