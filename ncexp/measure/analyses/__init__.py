"""conf/analysis: each reads an evaluated split and yields (family/quantity, value)."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.measure.analyses.augmented import Augmented
from ncexp.measure.analyses.depth import Depth, SpectraAndNorms
from ncexp.measure.analyses.from_examples import Calibration, Decisions, FeatureLength, RobustnessAnalysis
from ncexp.measure.analyses.from_statistics import (
    CentralPathAnalysis,
    LayerwiseCollapse,
    LossAndError,
    MSEDecompositionAnalysis,
    NeuralCollapse,
)
from ncexp.measure.analyses.geometry import Geometry
from ncexp.measure.analyses.outside import Outside
from ncexp.measure.analyses.portrait import Portrait
from ncexp.measure.analyses.trained_weights import TrainedWeights
