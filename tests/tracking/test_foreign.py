"""The run of another training's checkpoints in MLflow: every number, also of files that came later."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import foreign_networks
import pytest
import torch
from mlflow.tracking import MlflowClient
from tracking_stores import journalled, statuses, stored

#: A process that kills itself without warning when the second file is to be measured.
KILLED = """
import os, signal, sys
from ncexp.measure import ForeignTraining
measure, calls = ForeignTraining.measure, []
def counted(self, epoch):
    calls.append(epoch)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(self, epoch)
ForeignTraining.measure = counted
from ncexp.__main__ import main
sys.exit(main())
"""
HELPERS = Path(__file__).parents[1] / "helpers"


def save(folder: Path, epoch: int) -> None:
    torch.manual_seed(epoch)
    torch.save({"state_dict": foreign_networks.make(10, width=4).state_dict()}, folder / f"step_{epoch}_of_9.pt")


def measure(folder: Path, *start: str) -> subprocess.CompletedProcess[str]:
    words = [
        "measure", "checkpoints=ckpts/*.pt", r"checkpoint.epoch=step_(\d+)", "checkpoint.key=state_dict",
        "dataset=digits", "dataset.examples_per_class=5", "architecture=module",
        "architecture.factory=foreign_networks.make", "+architecture.width=4", "loss=mse",
        "optimizer.weight_decay=5e-4", "analysis=[collapse,central_path]",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(HELPERS)}
    command = [sys.executable, *(start or ("-m", "ncexp")), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_every_number_of_every_file_is_in_mlflow_once(tmp_path: Path, store_template: Path) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    shutil.copy(store_template, outputs / "mlflow.db")
    (tmp_path / "ckpts").mkdir()
    for epoch in (1, 2, 4):
        save(tmp_path / "ckpts", epoch)
    killed = measure(tmp_path, "-c", KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    done = measure(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 files, 2 of them measured now" in done.stdout
    (run,) = outputs.glob("digits-*_checkpoints_*")
    assert stored(outputs / "mlflow.db") == journalled([run])
    save(tmp_path / "ckpts", 9)
    done = measure(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stored(outputs / "mlflow.db") == journalled([run])
    assert statuses(outputs / "mlflow.db") == [("FINISHED", "completed")]
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert found.info.run_name == "foreign_networks.make-mse-?-?"
    assert found.data.params["checkpoints"] == "ckpts/*.pt"
    assert "origin.json" in {file.path for file in client.list_artifacts(found.info.run_id)}
    assert "another training's checkpoints" in found.data.tags["mlflow.note.content"]
