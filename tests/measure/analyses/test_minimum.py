"""The distances of free features to their global minimum: 0 where gradient descent, L-BFGS and an integrator of the
flow end, by the ordinary loop and objective; undefined, with the reason, where no theorem gives the minimum.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import minimize
from support import Compose, measured, train
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ncexp.config import ConfigError, RunConfig, check
from ncexp.measure import subject_of
from ncexp.training import Assembly, assemble

#: What full-batch training leaves of an objective, relative, and of its arguments, of which the objective is quadratic.
REACHED, ARGUMENT = 1e-10, 1e-6
FREE = [
    "dataset=unconstrained", "dataset.num_classes=3", "dataset.examples_per_class=4", "batch_size=12",
    "architecture=unconstrained_features", "architecture.num_features=5", "loss=mse", "optimizer=sgd",
    "optimizer/schedule=constant", "optimizer.lr=0.3", "optimizer.weight_decay=0.02", "tracking.enabled=false",
    "analysis=[geometry]", "analysis.geometry.minimum=true",
]  # fmt: skip
DEEP = ["architecture.layers=3", "architecture.bias=false", "optimizer.weight_decay=0.01"]
SIZES = ["dataset.examples_per_class=6", "dataset.class_sizes=[6,4,2]"]
EVERY_DECAY = "{backbone.table:0.01,*.layers.0.weight:0.03,classifier.weight:0.02,classifier.bias:0.0}"
TARGETS = [
    "dataset=unconstrained_targets", "dataset.variances=[1.0,0.5]", "dataset.num_examples=12", "batch_size=12",
    *(one for one in FREE if not one.startswith(("dataset", "batch_size", "loss"))),
]  # fmt: skip
CASES = {
    "one layer": FREE,
    "deep": [*FREE, *DEEP],
    "deep, unequal": [*FREE, *DEEP, *SIZES],
    "free bias, decays": [*FREE, *SIZES, "architecture.layers=2", f"optimizer.decay_of={EVERY_DECAY}"],
    "2/C": [*FREE, "loss.scale=2/C", "optimizer.weight_decay=0.01"],
    "cross-entropy": [*FREE, "loss=cross_entropy"],
    "label smoothing": [*FREE, "loss=label_smoothing", "optimizer.lr=1.0"],
    "targets": [*TARGETS, "loss=squared_error"],
    "deep targets": [*TARGETS, "loss=squared_error", *DEEP],
}


def built(composed: Compose, base: list[str]) -> tuple[RunConfig, Assembly]:
    config = check(composed(base=base))
    return config, assemble(config)


def distances(config: RunConfig, assembly: Assembly) -> dict[str, float]:
    names = ("excess", "outputs", "features", "weights")
    record = measured(assembly, config)
    return {name: float(record[f"train/geometry/minimum_{name}"]) for name in names}  # type: ignore[arg-type]


def descend(assembly: Assembly) -> None:
    """Three thousand steps of the training loop."""
    for _ in range(3000):
        assembly.training.run_epoch(lambda: False)


def value_and_slope(assembly: Assembly) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The objective of the run's own network, loss and decays, as a function of all parameters."""
    network, decays = assembly.training.network, subject_of(assembly).decays
    inputs, labels = next(assembly.dataset.train.batches(10**6))
    assert decays is not None

    def value(at: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.tensor(at), network.parameters())
        logits, features = network(inputs)
        result = assembly.training.loss(logits, labels, features)
        for name, one in network.named_parameters():
            result = result + decays[name] / 2 * one.square().sum()
        slopes = torch.autograd.grad(result, list(network.parameters()))
        return float(result.detach()), torch.cat([one.flatten() for one in slopes]).numpy()

    return value


def jump(assembly: Assembly) -> None:
    """L-BFGS."""
    first = parameters_to_vector(assembly.training.network.parameters()).detach().numpy()
    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-18, "gtol": 1e-10}
    value = value_and_slope(assembly)
    value(minimize(value, first, jac=True, method="L-BFGS-B", options=options).x)


def flow(assembly: Assembly) -> None:
    """Gradient flow to time 2000, by an integrator for stiff equations."""
    first = parameters_to_vector(assembly.training.network.parameters()).detach().numpy()
    value = value_and_slope(assembly)
    value(solve_ivp(lambda _, y: -value(y)[1], (0, 2000), first, "LSODA", rtol=1e-9, atol=1e-10).y[:, -1])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gradient_descent_reaches_the_minimum(composed: Compose, case: str) -> None:
    config, assembly = built(composed, CASES[case])
    descend(assembly)
    found = distances(config, assembly)
    assert abs(found["excess"]) < REACHED
    assert all(value < ARGUMENT for name, value in found.items() if name != "excess"), found


@pytest.mark.slow
@pytest.mark.parametrize("way", [jump, flow])
@pytest.mark.parametrize("case", ["one layer", "deep, unequal", "cross-entropy", "deep targets"])
def test_other_methods_reach_the_minimum(composed: Compose, case: str, way: Callable[[Assembly], None]) -> None:
    config, assembly = built(composed, CASES[case])
    way(assembly)
    found = distances(config, assembly)
    assert abs(found["excess"]) < REACHED
    assert all(value < 10 * ARGUMENT for name, value in found.items() if name != "excess"), found


@pytest.mark.slow
def test_descent_from_a_small_spectrum_is_shown_to_stop_elsewhere(composed: Compose) -> None:
    """A product of rank 1 stays one: a stationary point above the minimum, one mode of the three."""
    config, assembly = built(composed, [*FREE, *DEEP, "architecture.spectrum=[1.0]"])
    descend(assembly)
    at = parameters_to_vector(assembly.training.network.parameters()).detach().numpy()
    assert np.abs(value_and_slope(assembly)(at)[1]).max() < 1e-8
    found = distances(config, assembly)
    assert found["excess"] > 0.1
    assert found["outputs"] == pytest.approx(math.sqrt(2 / 3), rel=1e-6)


def recorded(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last row of geometry in the journal of a run, and its facts."""
    directory = train(raw)
    (path,) = directory.measurements.glob("geometry_*.jsonl")
    return json.loads(path.read_text().splitlines()[-1]), json.loads(directory.facts.read_text())


@pytest.mark.slow
def test_minimum_is_reached_on_the_path(composed: Compose) -> None:
    row, facts = recorded(composed("regime=on_path", "epochs=1500", "evaluate_at=[1500]", base=FREE))
    assert facts["minimum"] == "in closed form"
    assert abs(row["train/geometry/minimum_excess"]) < REACHED
    assert row["train/geometry/minimum_outputs"] < ARGUMENT


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ([*DEEP, "architecture.activation=relu"], "with ReLU between the layers"),
        (["optimizer=adamw", "optimizer.lr=0.01"], "the decay is no part of the objective"),
        (["optimizer.decoupled=0.5"], "the decay is no part of the objective"),
        (["architecture.classifier=simplex_etf"], "the classifier is fixed"),
        (["optimizer.decay_of={backbone.table:0.0}"], "without decay of backbone.table no minimum is attained"),
        (SIZES, "their minimum has no closed form"),
        (["loss=cross_entropy", *SIZES], "cross-entropy with classes of unequal size"),
        (["loss=cross_entropy", "architecture.layers=2"], "Of more layers the minimum is not known"),
        (["loss=focal"], "no theorem gives the minimum of Focal"),
    ],
)
def test_minimum_is_undefined_where_no_theorem_gives_it(composed: Compose, overrides: list[str], reason: str) -> None:
    chosen = overrides[0].split("=")[0] + "="
    row, facts = recorded(composed(*overrides, "epochs=1", base=[one for one in FREE if not one.startswith(chosen)]))
    assert reason in facts["minimum"]
    assert row["train/geometry/minimum_excess"] is None


def test_minimum_refuses_features_that_are_not_free(composed: Compose) -> None:
    config = check(composed("analysis=[geometry]", "analysis.geometry.minimum=true"))
    with pytest.raises(ConfigError, match=r"analysis\.geometry\.minimum: expected architecture=unconstrained_features"):
        measured(assemble(config), config)


def test_minimum_off_leaves_the_measurement_key(composed: Compose) -> None:
    keys = {
        off: check(composed("analysis=[geometry]", f"analysis.geometry.minimum={off}")).analyses["geometry"].key
        for off in ("true", "false")
    }
    assert keys["false"] == "c74daa765f" != keys["true"]
