"""`ncexp simulate`: under the rules of a run directory, flow and closed form agree and collapse."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import compose

from ncexp.cli.simulate import simulate
from ncexp.config import ConfigError, check_simulation
from ncexp.record import Busy, RunDirectory, State, find_runs, read_json, read_run
from ncexp.record.measurements import list_measurements

#: A second of integration.
SMALL = ["simulation=central_path", "simulation.num_classes=3", "simulation.num_features=4",
         "simulation.examples_per_class=6", "simulation.last_time=1e7", "simulation.num_times=12"]  # fmt: skip
#: Ten times the integrator's error that the flow's own tests allow.
AGREEMENT = 1e-8

Compose = Callable[..., dict[str, Any]]


def configuration(outputs: Path, *overrides: str) -> dict[str, Any]:
    return compose("simulate", [*SMALL, f"outputs={outputs}", "tracking.enabled=false", *overrides])


@pytest.fixture
def composed(outputs: Path) -> Compose:
    return lambda *overrides: configuration(outputs, *overrides)


@dataclass(frozen=True)
class Simulated:
    """A completed simulation: its directory, the state that was returned, and what was printed."""

    directory: RunDirectory
    returned: State
    printed: str


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    outputs = tmp_path_factory.mktemp("simulated") / "outputs"
    raw, console = configuration(outputs), Console(file=io.StringIO(), width=120)
    returned = simulate(raw, console)
    return Simulated(RunDirectory(check_simulation(raw).directory), returned, console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def completed(once: Simulated, composed: Compose) -> RunDirectory:
    """A copy of it where `composed` has it."""
    return RunDirectory(shutil.copytree(once.directory.path, check_simulation(composed()).directory))


@pytest.fixture
def not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds."""
    monkeypatch.setattr("ncexp.report.figures.draw_simulation", lambda run, directory: directory)


def journal_of(directory: RunDirectory) -> Path:
    """The only journal of a simulation."""
    (measurement,) = list_measurements(directory.measurements)
    return measurement.journal.path


@pytest.mark.slow
def test_simulation_agrees_with_the_closed_form_and_collapses(once: Simulated) -> None:
    assert once.returned is State.COMPLETED
    directory = once.directory
    assert directory.path.parent.parts[-2:] == ("outputs", "simulations")
    assert {path.name for path in directory.figures.iterdir()} == {"path_portrait.pdf", "path_portrait.png"}
    run = read_run(directory.path)
    first, last = run.records[0], run.records[-1]
    assert (len(run.records), first["train/path/time"]) == (12, 0.0)
    assert last["train/path/time"] == pytest.approx(1e7)
    for record in run.records:
        assert record["train/theory/residual"] < AGREEMENT
        assert record["train/path/identity_residual"] < AGREEMENT
        assert record["train/theory/loss_nc1"] == pytest.approx(record["train/mse/loss_nc1"], rel=AGREEMENT)
        assert record["train/path/rank"] == 4
        assert record["train/path/condition_number"] == pytest.approx(1, abs=AGREEMENT)  # Σ_W = I
    for name in ("nc1_trace", "equinorm_means", "maximal_angle_means", "self_duality"):
        assert last[f"train/collapse/{name}"] < 0.05 * first[f"train/collapse/{name}"]
    assert last["train/collapse/nearest_class_center_mismatch"] == 0
    assert last["train/path/snr_ratio"] == pytest.approx(1, abs=1e-3)
    assert "differ by at most" in once.printed


@pytest.mark.slow
def test_simulation_is_read_as_any_run(once: Simulated) -> None:
    directory = once.directory
    run = read_run(directory.path)
    assert (run.is_simulation, run.state, run.training) == (True, State.COMPLETED, [])
    assert run.parameters["simulation.num_times"] == 12
    assert read_json(directory.facts) == {"num_classes": 3, "num_features": 4, "num_train": 18}
    assert sorted(directory.clock.read()) == list(range(12))
    assert all(name == "epoch" or name.startswith("train/") for record in run.records for name in record)


@pytest.mark.slow
@pytest.mark.usefixtures("not_drawn")
def test_simulation_completed_is_shown_and_rerun_all_simulates_anew(
    composed: Compose, completed: RunDirectory, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = completed
    journal, clock = journal_of(directory).read_bytes(), directory.clock.read()
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.config.Component.build", None)  # computing anything would fail
        assert simulate(composed(), console) is State.COMPLETED
    assert "differ by at most" in console.file.getvalue()  # type: ignore[attr-defined]
    simulate(composed("rerun=all"), console)
    assert journal_of(directory).read_bytes() == journal
    assert directory.clock.read() != clock


@pytest.mark.slow
@pytest.mark.usefixtures("not_drawn")
def test_simulation_that_fails_leaves_state_and_traceback(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.simulations.central_path._measured", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            simulate(composed(), console)
    directory = RunDirectory(check_simulation(composed()).directory)
    assert directory.state() is State.FAILED
    assert "ZeroDivisionError" in directory.log.read_text()
    assert simulate(composed(), console) is State.COMPLETED
    assert len(read_run(directory.path).records) == 12


@pytest.mark.slow
def test_simulation_leaves_alone_what_another_process_computes(composed: Compose, console: Console) -> None:
    with RunDirectory(check_simulation(composed()).directory).locked(), pytest.raises(Busy):
        simulate(composed(), console)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+epochs=5", "epochs: no such key"),
        ("seed=-1", "seed: expected a value greater than or equal to 0, got -1"),
        ("rerun=never", "rerun: expected 'failed' or 'all', got 'never'"),
        ("+sede=1", r"sede: no such key. Valid: .* Did you mean seed\?"),
        ("simulation.num_times=2", "simulation.num_times: expected a value greater than or equal to 3, got 2"),
        ("simulation.num_features=16", "simulation.num_features: expected at most n - C = 15, got 16"),
        ("simulation.last_time=0.1", "simulation.last_time: expected above 0.54, the first time, got 0.1"),
    ],
)
def test_simulation_refuses_before_anything_is_written(
    composed: Compose, console: Console, outputs: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate(composed(override), console)
    assert not outputs.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("completed")
def test_simulation_is_no_training(outputs: Path) -> None:
    with pytest.raises(ValueError, match="expected run directories, got none"):
        find_runs([outputs])


def test_simulation_key_depends_on_what_determines_the_result(composed: Compose) -> None:
    key = check_simulation(composed()).key
    assert check_simulation(composed("rerun=all", "outputs=elsewhere")).key == key
    assert check_simulation(composed("seed=1")).key != key
    assert check_simulation(composed("simulation.num_times=13")).key != key


@pytest.mark.slow
@pytest.mark.usefixtures("not_drawn")
def test_simulation_whose_journal_was_cut_is_damaged_and_computed_anew(
    composed: Compose, completed: RunDirectory, console: Console
) -> None:
    path = journal_of(completed)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert read_run(completed.path).state is State.DAMAGED
    assert simulate(composed(), console) is State.COMPLETED
    assert path.read_bytes() == whole
