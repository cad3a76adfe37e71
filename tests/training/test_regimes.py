"""Trainings on the central path: on it at every step, whole after an interruption, and along the closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SMALL, Compose, journals, measured, train

from ncexp.collapse import CentralPath, class_statistics, snr_singular_values
from ncexp.collapse.gradient_flow import renormalize
from ncexp.config import ConfigError, RunConfig, check
from ncexp.config.composing import compose_mapping
from ncexp.measure import RecordedTraining
from ncexp.record import RunDirectory, read_run
from ncexp.training import Interrupted, assemble, load_weights

REGIMES = ["on_path", "renormalized"]
#: L_LS^⊥/L of a float64 solve, a square of roundings; of a classifier that is then kept in float32.
SOLVED, KEPT = 1e-24, 1e-9
#: Four classes of twenty free features in six dimensions, all in every step.
C, P, N = 4, 6, 20
FREE = [
    "loss=mse", "dataset=unconstrained", f"dataset.num_classes={C}", f"dataset.examples_per_class={N}",
    "architecture=unconstrained_features", f"architecture.num_features={P}", f"batch_size={C * N}",
    "optimizer=sgd", "optimizer/schedule=constant", "optimizer.momentum=0.0", "optimizer.weight_decay=0.0",
    "tracking.enabled=false",
]  # fmt: skip


def small(outputs: Path, *overrides: str) -> dict[str, Any]:
    return compose_mapping("config", [*SMALL, "batch_size=40", f"outputs={outputs}", *overrides])


@pytest.fixture(scope="module", params=REGIMES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The configuration of a small network in batches, and the directory that it was trained in."""
    raw = small(tmp_path_factory.mktemp("outputs"), f"regime={request.param}")
    return raw, train(raw).path


@pytest.mark.slow
def test_every_step_is_on_the_path_to_rounding(trained: tuple[dict[str, Any], Path]) -> None:
    run = read_run(trained[1])
    assert len(run.training) == 6
    assert all(0 < record["fit/perp_share"] < SOLVED for record in run.training)
    assert all(record["train/path/perp_share"] < KEPT for record in run.records)
    assert run.training[-1]["fit/loss"] < 0.95 * run.training[0]["fit/loss"]
    assert run.facts["path_statistics"].startswith(f"{trained[0]['regime']}: W_LS of the step's batch of 40 examples")


@pytest.mark.slow
def test_weights_that_are_kept_are_renormalized_and_measure_as_in_training(
    trained: tuple[dict[str, Any], Path],
) -> None:
    raw, path = trained
    config = check(raw)
    assembly = assemble(config)
    load_weights(RunDirectory(path).checkpoint(6), assembly.training.network, config.key)
    last, again = read_run(path).records[-1], measured(assembly, config, epoch=6)
    assert all(last[name] == value for name, value in again.items() if not math.isnan(value))
    data = assembly.dataset.train
    with torch.no_grad():
        features = assembly.training.network.eval()(data.inputs)[1]  # type: ignore[attr-defined]
    covariance = class_statistics(features, data.labels, 4).within_class_covariance
    off = float((covariance - torch.eye(len(covariance))).abs().max())
    assert (off < 1e-4) == (raw["regime"] == "renormalized")  # float32 features


@pytest.mark.slow
def test_interrupted_within_an_epoch_and_resumed_equals_uninterrupted(
    trained: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    raw = trained[0] | {"outputs": str(tmp_path)}
    config = check(raw)
    directory = RunDirectory(config.directory)
    recorded = RecordedTraining(config, directory, assemble(config))
    steps = iter([False] * 4 + [True])  # two steps an epoch: after the first of the third
    with directory.locked(), pytest.raises(Interrupted):
        list(recorded.epochs(lambda: next(steps)))
    assert journals(train(raw).path) == journals(trained[1])


def test_plain_runs_keep_the_key_and_name_of_before_there_were_regimes(tmp_path: Path) -> None:
    raw = small(tmp_path)
    before = {name: value for name, value in raw.items() if name != "regime"}
    assert check(raw).key == check(before).key
    keys = {check(raw | {"regime": regime}).key for regime in ["plain", *REGIMES]}
    assert len(keys) == 3
    assert "-mse_on_path_lr" in check(raw | {"regime": "on_path"}).name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["regime=on_path", "loss=cross_entropy"], "regime: expected plain with a loss that is no multiple of the MSE"),
        (["regime=on_path", "+architecture.classifier=simplex_etf"], "expected plain with a fixed last layer"),
        (["regime=renormalized", "batch_size=10"], "batches of at least P \\+ C = 12 examples .* got one of 10"),
        (["regime=renormalized", "batch_size=35"], "got one of 10"),
        (["regime=on_path", "batch_size=10", "optimizer.weight_decay=0.0"], "got one of 10 .* Here λ = "),
        (["regime=tied"], "regime: .*plain"),
    ],
)
def test_regime_refuses(tmp_path: Path, overrides: list[str], message: str) -> None:
    raw = small(tmp_path, *overrides)
    with pytest.raises(ConfigError, match=message):
        _begun(raw)


def _begun(raw: dict[str, Any]) -> RecordedTraining:
    config = check(raw)
    return RecordedTraining(config, RunDirectory(config.directory), assemble(config))


def test_regime_takes_small_batches_with_decay(tmp_path: Path) -> None:
    _begun(small(tmp_path, "regime=on_path", "batch_size=10"))


def _free(composed: Compose, *overrides: str) -> tuple[RunConfig, torch.Tensor, RecordedTraining]:
    """A training of free features, not begun, and their table H."""
    config = check(composed(*overrides, base=FREE))
    assembly = assemble(config)
    recorded = RecordedTraining(config, RunDirectory(config.directory), assembly)
    network = assembly.training.network
    return config, getattr(network, "network", network).backbone.table, recorded


def _spectrum(table: torch.Tensor) -> torch.Tensor:
    return snr_singular_values(class_statistics(table.detach(), torch.arange(C).repeat_interleave(N), C))


@pytest.mark.slow
def test_renormalized_free_features_follow_the_closed_form_at_first_order(composed: Compose) -> None:
    """Gradient descent is Euler's method for the flow: the error halves with the step, mode by mode."""
    errors = []
    for rate, steps in [(80.0, 25), (40.0, 50), (20.0, 100)]:
        _, table, recorded = _free(composed, "regime=renormalized", f"optimizer.lr={rate}", f"epochs={steps}")
        start, training = _spectrum(table), recorded._training
        for _ in range(steps):
            training.run_epoch(lambda: False)
        time = torch.tensor([2000.0], dtype=torch.float64)
        errors.append((_spectrum(table) / CentralPath(start, C, N).singular_values(time)[0]).log().abs())
    orders = (torch.stack(errors[:-1]) / torch.stack(errors[1:])).log2()
    assert float(errors[-1].max()) < 0.02
    assert orders.flatten().tolist() == pytest.approx([1.0] * 6, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (["optimizer.weight_decay=0.01", "optimizer.momentum=0.5"], [20, 20, 20, 20]),
        (["dataset.imbalance=10", "batch_size=35"], [20, 9, 4, 2]),  # of the data set's labels
    ],
    ids=["decay and momentum", "unequal classes"],
)
def test_renormalized_features_keep_unit_noise(composed: Compose, options: list[str], counts: list[int]) -> None:
    _, table, recorded = _free(composed, "regime=renormalized", "optimizer.lr=10.0", *options)
    for _ in range(10):
        recorded._training.run_epoch(lambda: False)
    labels = torch.cat([labels for _, labels in recorded._training.data.batches(sum(counts))])
    assert labels.bincount().tolist() == counts
    covariance = class_statistics(table.detach(), labels, C).within_class_covariance
    torch.testing.assert_close(covariance, torch.eye(P).double(), atol=1e-12, rtol=0)


@pytest.mark.slow
def test_on_path_free_features_grow_by_their_own_exponential_law(composed: Compose) -> None:
    """Descent from Σ_W = I: with m_j, σ_j the sizes of class means and noise along mode j, ω_j = m_j/σ_j,

    dm_j/dt = (1/n) (ω_j/σ_j) C/(C + ω_j²)² and dσ_j/dt = −(1/n) (ω_j²/σ_j)/(C + ω_j²)². So E_j = m_j² + C σ_j² is
    conserved, and d log ω_j/dt = 1/(n E_j): ω_j(t) = ω_j(0) exp(t/(n (C + ω_j(0)²))). Modes catch up, cross and part.
    """
    errors = []
    for rate, steps in [(32.0, 30), (16.0, 60)]:
        _, table, recorded = _free(composed, "regime=on_path", f"optimizer.lr={rate}", f"epochs={steps}")
        labels = torch.arange(C).repeat_interleave(N)
        with torch.no_grad():
            table.copy_(renormalize(table, labels, C))
            table.add_(3 * class_statistics(table, labels, C).centered_class_means[labels])  # ω_j beyond √C: they cross
        start = _spectrum(table)
        for _ in range(steps):
            recorded._training.run_epoch(lambda: False)
        grown = start * (960 / (C * N * (C + start.square()))).exp()
        errors.append((_spectrum(table) / grown.sort(descending=True).values).log().abs())
    assert grown.argsort().tolist() != start.argsort().tolist()
    assert float(errors[-1].max()) < 0.02
    assert float((errors[0] / errors[1]).log2().mean()) == pytest.approx(1.0, abs=0.2)
