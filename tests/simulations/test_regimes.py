"""`ncexp simulate simulation=plain|on_path|central_path`: three flows from one start, and trainings beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support import compose

from ncexp.collapse import LinearClassifier
from ncexp.collapse.gradient_flow import on_path_gradient_flow, plain_gradient_flow, renormalize
from ncexp.config import Regime, check, check_simulation
from ncexp.measure import RecordedTraining
from ncexp.record import Record, RunDirectory
from ncexp.simulations.central_path import random_features
from ncexp.simulations.unrenormalized import LONGEST, on_path, plain
from ncexp.training import assemble

C, N, P = 3, 6, 4
LAST = LONGEST * N * C**2
#: Rounding of the spectra of features whose noise has fallen by four orders, and of the integrator.
AGREEMENT = 1e-6
FLOWS: dict[Regime, Callable[..., Iterator[Record]]] = {
    "plain": plain,
    "on_path": on_path,
    "renormalized": random_features,
}


@pytest.fixture(scope="module")
def records() -> dict[Regime, list[Record]]:
    """Of each regime, from one seed to the last time that is allowed without renormalization."""
    sizes = {"num_classes": C, "num_features": P, "examples_per_class": N, "last_time": LAST, "num_times": 6}
    return {regime: list(flow(0, **sizes)) for regime, flow in FLOWS.items()}


@pytest.mark.slow
def test_regimes_begin_with_one_spectrum_and_end_with_three(records: dict[Regime, list[Record]]) -> None:
    for name in ("train/path/snr_1", "train/path/snr_2"):
        first = [found[0][name] for found in records.values()]
        assert first == pytest.approx([first[0]] * 3, rel=1e-12)
    assert len({round(found[-1]["train/path/snr_ratio"], 3) for found in records.values()}) == 3


@pytest.mark.slow
def test_only_plain_features_begin_off_the_central_path_and_come_to_it(records: dict[Regime, list[Record]]) -> None:
    shares = {regime: [one["train/path/perp_share"] for one in found] for regime, found in records.items()}
    assert max(shares["on_path"]) < 1e-20  # rounding, squared
    assert max(shares["renormalized"]) < 1e-20
    assert shares["plain"][0] > 0.1
    assert shares["plain"][-1] < 1e-6


@pytest.mark.slow
def test_only_renormalized_features_follow_the_closed_form(records: dict[Regime, list[Record]]) -> None:
    residuals = {regime: max(one["train/theory/residual"] for one in found) for regime, found in records.items()}
    assert residuals["renormalized"] < AGREEMENT
    assert min(residuals["plain"], residuals["on_path"]) > 1


@pytest.mark.parametrize("regime", ["plain", "on_path"])
def test_simulation_of_a_regime_is_a_choice_with_a_name_of_its_own(regime: Regime) -> None:
    config = check_simulation(compose("simulate", [f"simulation={regime}"]))
    assert config.name == f"{regime}_seed0"
    config.simulation.build(seed=0)  # computes nothing before its first record
    beyond = check_simulation(compose("simulate", [f"simulation={regime}", "simulation.last_time=1e8"]))
    with pytest.raises(ValueError, match=r"simulation.last_time: expected at most 10 N C² = 20000, got 1e\+08"):
        beyond.simulation.build(seed=0)


@pytest.mark.parametrize(("regime", "time", "fewest"), [("plain", 5.0, 20), ("on_path", 24.0, 6)])
def test_training_in_small_steps_tends_to_the_flow_at_first_order(
    regime: Regime, time: float, fewest: int, outputs: Path
) -> None:
    """The real loop, whose step is Euler's method for the flow: half the step, half the error. A trained layer follows
    in t of order 1, features in N C²: so plain takes smaller steps.
    """
    errors = []
    for steps in (fewest, 2 * fewest):
        recorded, table = _training(regime, outputs, time / steps, steps)
        layer = recorded._training.network.classifier
        start = table.detach().clone(), LinearClassifier(layer.weight, layer.bias)  # type: ignore[arg-type, union-attr]
        for _ in range(steps):
            recorded._training.run_epoch(lambda: False)
        labels, times = torch.arange(C).repeat_interleave(N), torch.tensor([time], dtype=torch.float64)
        if regime == "plain":
            ((reached, _),) = plain_gradient_flow(*start, labels, times)
        else:
            ((reached, _),) = on_path_gradient_flow(start[0], labels, C, times)
        moved = float((reached - start[0]).norm())
        errors.append(float((table.detach() - reached).norm()) / moved)
    assert errors[1] < 0.1
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)


def _training(regime: Regime, outputs: Path, rate: float, steps: int) -> tuple[RecordedTraining, torch.Tensor]:
    """A training of free features that begin renormalized, and their table H."""
    sizes = [f"dataset.num_classes={C}", f"dataset.examples_per_class={N}", f"batch_size={C * N}", f"epochs={steps}"]
    chosen = [f"architecture.num_features={P}", f"regime={regime}", f"optimizer.lr={rate}", f"outputs={outputs}"]
    raw = compose("config", ["experiment=unconstrained_features", *sizes, *chosen, "tracking.enabled=false"])
    config = check(raw)
    recorded = RecordedTraining(config, RunDirectory(config.directory), assemble(config))
    table = recorded._training.network.backbone.table
    with torch.no_grad():
        table.copy_(renormalize(table, torch.arange(C).repeat_interleave(N), C))
    return recorded, table
