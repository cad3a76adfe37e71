"""The mathematics of neural collapse and of the central path; PyTorch only, usable on anyone's model and loader.

>>> import torch
>>> from ncexp.collapse import ClassStatisticsAccumulator, LinearClassifier, measure_collapse
>>> layer, loader = torch.nn.Linear(4, 2), [(torch.eye(4), torch.tensor([0, 1, 0, 1]))]
>>> accumulator = ClassStatisticsAccumulator(num_classes=2, num_features=4)
>>> for features, labels in loader:
...     accumulator.update(features, labels)
>>> metrics = measure_collapse(accumulator.compute(), LinearClassifier(layer.weight, layer.bias))
>>> round(metrics.nc1_ratio, 6)
2.0
"""

from ncexp.collapse.calibration import (
    CalibrationAccumulator,
    CalibrationBins,
    CalibrationMetrics,
    calibration_bins,
)
from ncexp.collapse.central_path import CentralPath, central_path_losses, conserved_differences
from ncexp.collapse.class_statistics import ClassStatistics, ClassStatisticsAccumulator, class_statistics
from ncexp.collapse.deep_minimum import DeepMinimum, deep_minimum, entropy_collapse
from ncexp.collapse.depth import (
    AbsoluteNorms,
    LayerProbe,
    Spectra,
    SubspaceAlignment,
    absolute_norms,
    effective_depth,
    effective_rank_of,
    layer_probe,
    next_weight_alignment,
    spectra,
    stable_rank,
)
from ncexp.collapse.geometries import (
    LabelGeometry,
    free_bias_geometry,
    gram_distance,
    one_vs_rest_margin,
    seli_geometry,
    simplex_etf,
)
from ncexp.collapse.gradient_flow import FlowTrajectory, renormalized_gradient_flow
from ncexp.collapse.least_squares import (
    MSEDecomposition,
    PathDistance,
    decompose_mse,
    distance_to_path,
    least_squares_classifier,
    ridge_from_weight_decay,
)
from ncexp.collapse.linear_classifier import LinearClassifier
from ncexp.collapse.nearest_class_center import nearest_class_center_mismatch
from ncexp.collapse.neural_collapse import CollapseMetrics, measure_collapse
from ncexp.collapse.out_of_distribution import (
    VirtualLogit,
    auroc,
    energy,
    false_positive_rate,
    mahalanobis,
    maximum_logit,
    maximum_softmax,
    nearest_class_mean,
    neco,
    outside_orthogonality,
)
from ncexp.collapse.path_fit import PathFit, fit_time_change
from ncexp.collapse.rectified_minimum import deep_collapse, triangular_graph_solution
from ncexp.collapse.regression import (
    LinearMap,
    TargetDecomposition,
    TargetErrors,
    decompose_regression,
    distance_to_regression_path,
    least_squares_map,
    target_errors,
)
from ncexp.collapse.regression_collapse import (
    FreeFeaturesMinimum,
    RegressionCollapse,
    RegressionCollapseAccumulator,
    explained_variances,
    free_features_minimum,
    measure_regression_collapse,
    nrc3,
    regression_geometry,
)
from ncexp.collapse.row_sums import row_sum_factors, row_sum_rate
from ncexp.collapse.snr_spectrum import SNRSpectrum, snr_singular_values, snr_spectrum
from ncexp.collapse.target_statistics import TargetStatistics, TargetStatisticsAccumulator, target_statistics

# fmt: off
__all__ = [
    "AbsoluteNorms",
    "CalibrationAccumulator",
    "CalibrationBins",
    "CalibrationMetrics",
    "CentralPath",
    "ClassStatistics",
    "ClassStatisticsAccumulator",
    "CollapseMetrics",
    "DeepMinimum",
    "FlowTrajectory",
    "FreeFeaturesMinimum",
    "LabelGeometry",
    "LayerProbe",
    "LinearClassifier",
    "LinearMap",
    "MSEDecomposition",
    "PathDistance",
    "PathFit",
    "RegressionCollapse",
    "RegressionCollapseAccumulator",
    "SNRSpectrum",
    "Spectra",
    "SubspaceAlignment",
    "TargetDecomposition",
    "TargetErrors",
    "TargetStatistics",
    "TargetStatisticsAccumulator",
    "VirtualLogit",
    "absolute_norms",
    "auroc",
    "calibration_bins",
    "central_path_losses",
    "class_statistics",
    "conserved_differences",
    "decompose_mse",
    "decompose_regression",
    "deep_collapse",
    "deep_minimum",
    "distance_to_path",
    "distance_to_regression_path",
    "effective_depth",
    "effective_rank_of",
    "energy",
    "entropy_collapse",
    "explained_variances",
    "false_positive_rate",
    "fit_time_change",
    "free_bias_geometry",
    "free_features_minimum",
    "gram_distance",
    "layer_probe",
    "least_squares_classifier",
    "least_squares_map",
    "mahalanobis",
    "maximum_logit",
    "maximum_softmax",
    "measure_collapse",
    "measure_regression_collapse",
    "nearest_class_center_mismatch",
    "nearest_class_mean",
    "neco",
    "next_weight_alignment",
    "nrc3",
    "one_vs_rest_margin",
    "outside_orthogonality",
    "regression_geometry",
    "renormalized_gradient_flow",
    "ridge_from_weight_decay",
    "row_sum_factors",
    "row_sum_rate",
    "seli_geometry",
    "simplex_etf",
    "snr_singular_values",
    "snr_spectrum",
    "spectra",
    "stable_rank",
    "target_errors",
    "target_statistics",
    "triangular_graph_solution",
]
