"""One run from configuration to figures: what it leaves behind, and that being stopped leaves no trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient
from rich.console import Console
from support import SMALL, Compose

from ncexp.config import ConfigError, check
from ncexp.main import run
from ncexp.run_directory import Busy, RunDirectory
from ncexp.tracking.content import is_sent

#: A process that kills itself without warning at the n-th call of a function; module, attribute and n are arguments.
KILLED = """
import importlib, os, signal, sys
module, path, count = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
owner = importlib.import_module(module)
*outer, attribute = path.split(".")
for part in outer:
    owner = getattr(owner, part)
original, calls = getattr(owner, attribute), [0]
def counted(*args, **kwargs):
    calls[0] += 1
    if calls[0] == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(owner, attribute, counted)
from ncexp.__main__ import main
sys.exit(main())
"""


def _arguments(raw: dict[str, Any]) -> list[str]:
    """The small run of the fixture as command-line overrides."""
    return [*SMALL, f"outputs={raw['outputs']}", f"tracking.enabled={str(raw['tracking']['enabled']).lower()}"]


def _points(outputs: Path) -> dict[str, list[tuple[int, float, int]]]:
    """Every metric of the one MLflow run under `outputs` but its summary: name → (step, value, timestamp)."""
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    (found,) = client.search_runs([experiment.experiment_id])
    names = [n for n in found.data.metrics if not n.startswith(("final/", "best/", "zero/"))]
    return {n: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(found.info.run_id, n)] for n in names}


def _assert_mirrored(directory: RunDirectory, outputs: Path) -> None:
    """MLflow holds every defined value that it is sent once, at the journal's time, and nothing else."""
    times = directory.journal.timestamps()
    expected: dict[str, list[tuple[int, float, int]]] = {}
    for record in directory.journal.read():
        epoch = int(record["epoch"])
        for name, value in record.items():
            if is_sent(name) and value == value:
                expected.setdefault(name, []).append((epoch, value, times[epoch]))
    assert {name: sorted(points) for name, points in _points(outputs).items()} == expected


def test_run_leaves_everything_behind(composed: Compose, console: Console, outputs: Path) -> None:
    raw = composed()
    assert run(raw, console) == "completed"
    directory = RunDirectory(check(raw).directory)
    records = directory.journal.read()
    assert [record["epoch"] for record in records] == [1, 2, 4, 6]
    assert {"fit/loss", "train/loss", "train/error", "test/nc1_trace", "mse/loss_nc1", "mse/test_loss_ls_perp"} <= set(
        records[0]
    )
    assert directory.state() == "completed"
    assert {path.name for path in directory.figures.iterdir()} == {
        "neural_collapse.png",
        "mse_decomposition.png",
        "central_path.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in directory.figures.iterdir())
    facts = json.loads(directory.facts.read_text())
    assert (facts["num_train"], facts["num_test"], facts["num_features"]) == (80, 40, 8)
    assert facts["ridge_weight"] == raw["optimizer"]["weight_decay"]
    _assert_mirrored(directory, outputs)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"sqlite:///{outputs}/mlflow.db" in said
    assert f"ncexp ui {outputs}   # then its page #/experiments/1/runs/" in said
    assert str(directory.path) in said
    assert not (outputs / "mlruns").exists()
    assert not Path("mlruns").exists()


def test_run_mlflow_run_has_parameters_state_and_figures(composed: Compose, console: Console, outputs: Path) -> None:
    raw = composed()
    run(raw, console)
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("gaussian_mixture")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], "params.loss = 'mse' and params.lr = '0.018420157'")
    assert (found.info.status, found.data.tags["state"], found.data.tags["key"]) == (
        "FINISHED",
        "completed",
        check(raw).key,
    )
    assert found.data.params["architecture.hidden"] == "[16, 8]"
    assert {a.path for a in client.list_artifacts(found.info.run_id, "figures")} == {
        "figures/neural_collapse.png",
        "figures/mse_decomposition.png",
        "figures/central_path.png",
    }


def test_run_same_seed_gives_same_bytes(composed: Compose, console: Console, tmp_path: Path) -> None:
    journals = []
    for place in ("a", "b"):
        raw = composed(f"outputs={tmp_path / place}", "tracking.enabled=false")
        run(raw, console)
        journals.append(RunDirectory(check(raw).directory).journal.path.read_bytes())
    assert journals[0] == journals[1]


def test_run_other_seed_gives_other_numbers(composed: Compose, console: Console) -> None:
    losses = []
    for seed in (0, 1):
        raw = composed(f"seed={seed}", "tracking.enabled=false", "epochs=1")
        run(raw, console)
        losses.append(RunDirectory(check(raw).directory).journal.read()[0]["fit/loss"])
    assert losses[0] != losses[1]


def test_run_completed_trains_nothing_and_rerun_all_trains_anew(
    composed: Compose, console: Console, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = composed()
    run(raw, console)
    directory = RunDirectory(check(raw).directory)
    journal, clock = directory.journal.path.read_bytes(), directory.journal.clock_path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.main.assemble", None)  # building anything would fail
        assert run(raw, console) == "completed"
    assert directory.journal.clock_path.read_bytes() == clock
    assert "nothing to train" in console.file.getvalue()  # type: ignore[attr-defined]
    assert run(composed("rerun=all"), console) == "completed"
    assert directory.journal.path.read_bytes() == journal
    assert directory.journal.clock_path.read_bytes() != clock
    _assert_mirrored(directory, outputs)


@pytest.mark.parametrize(
    ("module", "function", "count"),
    [
        ("ncexp.training", "Training._step", 1),
        ("ncexp.training", "Training._step", 5),
        ("ncexp.journal", "Journal.append", 2),
        ("ncexp.checkpoint", "save", 1),
        ("ncexp.checkpoint", "save", 3),
        ("ncexp.files", "os.fsync", 9),
        ("ncexp.figures", "draw_figures", 1),
    ],
)
def test_run_killed_anywhere_and_started_again_ends_the_same(
    composed: Compose, console: Console, outputs: Path, tmp_path: Path, module: str, function: str, count: int
) -> None:
    undisturbed = composed(f"outputs={tmp_path / 'undisturbed'}", "tracking.enabled=false")
    run(undisturbed, console)
    raw = composed()
    command = [sys.executable, "-c", KILLED, module, function, str(count), *_arguments(raw)]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert run(raw, console) == "completed"
    directory = RunDirectory(check(raw).directory)
    expected = RunDirectory(check(undisturbed).directory).journal.path.read_bytes()
    assert directory.journal.path.read_bytes() == expected
    _assert_mirrored(directory, outputs)


def test_run_asked_to_stop_goes_on_from_the_middle_of_an_epoch(
    composed: Compose, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = composed(f"outputs={tmp_path / 'undisturbed'}", "tracking.enabled=false")
    run(undisturbed, console)
    raw = composed("tracking.enabled=false")
    from ncexp.training import Training

    step, calls = Training._step, [0]

    def step_and_signal(self: Training, *batch: torch.Tensor) -> None:
        step(self, *batch)
        calls[0] += 1
        if calls[0] == 8:  # three steps an epoch: the second of the third epoch
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", step_and_signal)
        assert run(raw, console) == "interrupted"
    directory = RunDirectory(check(raw).directory)
    assert directory.state() == "interrupted"
    assert run(raw, console) == "completed"
    assert "resumed   in epoch 3, after 2 of its steps" in console.file.getvalue()  # type: ignore[attr-defined]
    assert directory.journal.path.read_bytes() == RunDirectory(check(undisturbed).directory).journal.path.read_bytes()


def test_run_that_turns_non_finite_stops_there_and_is_marked_diverged(composed: Compose, console: Console) -> None:
    raw = composed("optimizer.lr=1e6", "optimizer/schedule=constant", "epochs=50", "architecture.batch_norm=false")
    assert run(raw, console) == "diverged"
    directory = RunDirectory(check(raw).directory)
    status = directory.status()
    assert status is not None
    assert status["epoch"] < 50
    assert run(raw, console) == "diverged"  # and is not trained again


def test_run_that_fails_leaves_traceback_and_state(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = composed("tracking.enabled=false")
    monkeypatch.setattr("ncexp.training.Training._step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(raw, console)
    directory = RunDirectory(check(raw).directory)
    assert directory.state() == "failed"
    assert "ZeroDivisionError" in directory.log.read_text()
    assert run(composed("tracking.enabled=false", "rerun=none"), console) == "failed"
    monkeypatch.undo()
    assert run(raw, console) == "completed"


def test_run_leaves_alone_what_another_process_trains(composed: Compose, console: Console) -> None:
    raw = composed("tracking.enabled=false")
    directory = RunDirectory(check(raw).directory)
    with directory.locked(), pytest.raises(Busy, match="expected a run that nobody trains"):
        run(raw, console)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=81"], "batch_size: expected at most the 80 training examples, got 81"),
        (["device=cuda:64"], "device: expected one of"),
        (["architecture=resnet"], "Choose architecture=mlp"),
        (["dataset.num_features=2"], "at least num_classes - 1 = 3, got 2"),
    ],
)
def test_run_refuses_what_the_parts_together_cannot_do(
    composed: Compose, console: Console, outputs: Path, overrides: list[str], message: str
) -> None:
    base = [o for o in SMALL if "hidden" not in o or "architecture=resnet" not in overrides]
    with pytest.raises(ConfigError, match=message):
        run(composed(*overrides, base=base), console)
    assert not outputs.exists()


def test_run_takes_a_network_from_somebody_elses_package(
    composed: Compose, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_package.py").write_text(
        "from torch import nn\n"
        "class Theirs(nn.Module):\n"
        "    def __init__(self, input_shape, num_classes, width: int):\n"
        "        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Linear(input_shape[0], width), nn.Tanh())\n"
        "        self.classifier = nn.Linear(width, num_classes, bias=False)\n"
        "    def forward(self, x):\n"
        "        features = self.body(x)\n"
        "        return self.classifier(features), features\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    raw = composed("tracking.enabled=false")
    raw["architecture"] = {"name": "theirs", "_target_": "their_package.Theirs", "width": 12}
    assert run(raw, console) == "completed"
    assert RunDirectory(check(raw).directory).journal.read()[-1]["mse/identity_residual"] < 1e-12
    raw["architecture"] = {"name": "theirs", "_target_": "their_package.Theirs", "widht": 12}
    with pytest.raises(ConfigError, match=r"no such key. Valid: width. Did you mean width\?"):
        run(raw, console)
