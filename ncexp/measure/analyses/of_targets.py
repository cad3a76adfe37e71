"""What the default analyses measure of a regression, in the place of what they measure of classes.

y are targets (n, m), L the objective ½ Ave ‖W h + b − y‖² + (λ_W/2) ‖W‖² + (λ_b/2) ‖b‖² (`ncexp.collapse.regression`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from ncexp.collapse import (
    RegressionCollapseAccumulator,
    decompose_regression,
    distance_to_regression_path,
    least_squares_map,
    regression_geometry,
    target_errors,
)
from ncexp.measure.evaluation import Evaluation
from ncexp.measure.evaluator import unexplained

#: Examples whose float64 features are held at once.
BLOCK = 8192


def loss_and_error(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """``loss``; ``error``, 1 − R² of all targets together; of each ``targets/r_squared_<j>`` and, in its own unit,
    ``targets/root_mean_square_error_<j>``.
    """
    layer, scales = evaluation.last_layer, evaluation.snapshot.target_scales or []
    errors = target_errors(evaluation.target_statistics, layer.weight, layer.bias)
    yield "loss", evaluation.mean_loss
    yield "error", evaluation.error
    mean_squares = errors.mean_squared_errors.clamp(min=0).tolist()
    for j, (square, share, scale) in enumerate(zip(mean_squares, errors.r_squared.tolist(), scales, strict=True), 1):
        yield f"targets/r_squared_{j}", share
        yield f"targets/root_mean_square_error_{j}", scale * square**0.5


def collapse(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """``nrc/nrc3``, ``gamma``, ``explained_variance``, ``rank_features``, ``subspace_angle``: `RegressionCollapse`."""
    for name, value in regression_geometry(evaluation.target_statistics, evaluation.last_layer.weight).items():
        yield f"nrc/{name}", value


def decomposition(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """``mse/loss`` and every other field of `TargetDecomposition`, ``mse/identity_residual``; λ under ``train/``."""
    ridge = (evaluation.ridge.weight, evaluation.ridge.bias)
    terms = decompose_regression(evaluation.target_statistics, *evaluation.last_layer, ridge)
    for name, value in asdict(terms).items():
        yield f"mse/{name}", value
    yield "mse/identity_residual", terms.residual
    if evaluation.split == "train":  # the same on test
        yield "mse/ridge_weight", ridge[0]
        yield "mse/ridge_bias", ridge[1]


def path(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """``path/perp_share``, ``classifier_distance``, ``prediction_angle``, on train alone."""
    if evaluation.split == "train":
        ridge = (evaluation.ridge.weight, evaluation.ridge.bias)
        distances = distance_to_regression_path(evaluation.target_statistics, *evaluation.last_layer, ridge)
        for name, value in asdict(distances).items():
            yield f"path/{name}", value


def of_examples(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """``nrc/nrc1``, ``nrc2`` and the two of centred features, about the directions of the TRAIN features;
    ``decisions/least_squares_error``: 1 − R² of the least-squares layer of the TRAIN features, with the run's λ.
    """
    train = evaluation.snapshot.splits["train"].of_targets
    layer, ridge = evaluation.last_layer, (evaluation.ridge.weight, evaluation.ridge.bias)
    accumulator = RegressionCollapseAccumulator(train.to(evaluation.device), layer.weight)
    for features, _ in evaluation.features():
        for block in features.split(BLOCK):
            accumulator.update(block)
    accumulator.reduce(evaluation.total)
    found = accumulator.compute()
    for name in ("nrc1", "nrc2", "nrc1_centered", "nrc2_centered"):
        yield f"nrc/{name}", getattr(found, name)
    optimum = least_squares_map(train, ridge, layer.bias is not None)
    yield "decisions/least_squares_error", unexplained(evaluation.target_statistics, optimum)
