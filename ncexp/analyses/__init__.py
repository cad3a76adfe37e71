"""conf/analysis: each takes one look at a split (statistics, classifier, features) and yields (name, value)."""

from ncexp.analyses.central_path import CentralPathAnalysis
from ncexp.analyses.decomposition import MSEDecompositionAnalysis
from ncexp.analyses.layers import LayerwiseCollapse
from ncexp.analyses.look import Look, take_look
from ncexp.analyses.neural_collapse import NeuralCollapse
from ncexp.analyses.probes import Probes
from ncexp.analyses.robustness import RobustnessAnalysis

__all__ = [
    "CentralPathAnalysis",
    "LayerwiseCollapse",
    "Look",
    "MSEDecompositionAnalysis",
    "NeuralCollapse",
    "Probes",
    "RobustnessAnalysis",
    "take_look",
]
