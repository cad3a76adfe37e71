"""conf/analysis: each takes one look at a split (statistics, classifier, features) and yields (name, value)."""

from ncexp.analyses.decomposition import MSEDecompositionAnalysis
from ncexp.analyses.look import Look, take_look
from ncexp.analyses.neural_collapse import NeuralCollapse

__all__ = ["Look", "MSEDecompositionAnalysis", "NeuralCollapse", "take_look"]
