"""experiment=central_path: under the rules of a run directory, flow and closed form agree and collapse."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from support import Compose

from ncexp.config import ConfigError, check
from ncexp.main import run
from ncexp.run_directory import Busy, RunDirectory
from ncexp.run_record import find_runs
from ncexp.simulations import check_simulation

#: A second of integration.
SMALL = ["experiment=central_path", "simulation.num_classes=3", "simulation.num_features=4",
         "simulation.examples_per_class=6", "simulation.last_time=1e7", "simulation.num_times=12"]  # fmt: skip
#: Ten times the integrator's error that the flow's own tests allow.
AGREEMENT = 1e-8


def test_simulation_agrees_with_the_closed_form_and_collapses(
    composed: Compose, console: Console, outputs: Path
) -> None:
    raw = composed(base=SMALL)
    assert run(raw, console) == "completed"
    directory = RunDirectory(check_simulation(raw).directory)
    assert directory.path.parent == outputs / "simulations"
    assert {path.name for path in directory.figures.iterdir()} == {"path_portrait.png"}
    records = directory.journal.read()
    first, last = records[0], records[-1]
    assert (len(records), first["path/time"], last["path/time"]) == (12, 0.0, pytest.approx(1e7))
    for record in records:
        assert record["theory/residual"] < AGREEMENT
        assert record["path/identity_residual"] < AGREEMENT
        assert record["theory/loss_nc1"] == pytest.approx(record["mse/loss_nc1"], rel=AGREEMENT)
        assert record["path/rank"] == 4
        assert record["path/condition_number"] == pytest.approx(1, abs=AGREEMENT)  # Σ_W = I
    for name in ("nc1_trace", "equinorm_means", "maximal_angle_means", "self_duality"):
        assert last[f"train/{name}"] < 0.05 * first[f"train/{name}"]
    assert last["train/nearest_class_center_mismatch"] == 0
    assert last["path/snr_ratio"] == pytest.approx(1, abs=1e-3)
    assert "differ by at most" in console.file.getvalue()  # type: ignore[attr-defined]


def test_simulation_completed_is_shown_and_rerun_all_simulates_anew(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(composed(base=SMALL), console)
    directory = RunDirectory(check_simulation(composed(base=SMALL)).directory)
    journal, clock = directory.journal.path.read_bytes(), directory.journal.clock_path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.config.Component.build", None)  # computing anything would fail
        assert run(composed(base=SMALL), console) == "completed"
    run(composed("rerun=all", base=SMALL), console)
    assert directory.journal.path.read_bytes() == journal
    assert directory.journal.clock_path.read_bytes() != clock


def test_simulation_that_fails_leaves_state_and_traceback(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = composed(base=SMALL)
    monkeypatch.setattr("ncexp.simulations.central_path._look", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(raw, console)
    directory = RunDirectory(check_simulation(raw).directory)
    assert directory.state() == "failed"
    assert "ZeroDivisionError" in directory.log.read_text()
    monkeypatch.undo()
    assert run(raw, console) == "completed"


def test_simulation_leaves_alone_what_another_process_computes(composed: Compose, console: Console) -> None:
    raw = composed(base=SMALL)
    with RunDirectory(check_simulation(raw).directory).locked(), pytest.raises(Busy):
        run(raw, console)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=5", "epochs: expected null, as a simulation trains nothing, got 5"),
        ("dataset=digits", "dataset: expected null"),
        ("seed=-1", "seed: expected an integer greater than or equal to 0, got -1"),
        ("rerun=never", "rerun: expected 'failed', 'all' or 'none', got 'never'"),
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
        run(composed(override, base=SMALL), console)
    assert not outputs.exists()


def test_simulation_is_no_training(composed: Compose, console: Console, outputs: Path) -> None:
    raw = composed(base=SMALL)
    with pytest.raises(ConfigError, match="Run it by itself, not in a sweep"):
        check(raw)
    run(raw, console)
    with pytest.raises(ValueError, match="expected run directories, got none"):
        find_runs([outputs])


def test_simulation_key_depends_on_what_determines_the_result(composed: Compose) -> None:
    key = check_simulation(composed(base=SMALL)).key
    assert check_simulation(composed("rerun=all", "outputs=elsewhere", base=SMALL)).key == key
    assert check_simulation(composed("seed=1", base=SMALL)).key != key
    assert check_simulation(composed("simulation.num_times=13", base=SMALL)).key != key
