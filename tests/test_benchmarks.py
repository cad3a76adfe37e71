"""That the benchmarks of trainings run where MLflow is not installed, as on a machine with a GPU lent for an hour."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = """
import analysis, arithmetic, grid_cost, runs_at_once, training_epoch
from workloads import assembled, configured, evaluated, generated, train_epoch
assembly = assembled(generated(40, (1, 8, 8), num_test=20), "batch_size=16")
train_epoch(assembly)
print(evaluated(assembly, configured())["train/collapse/nc1_trace"])
"""


@pytest.mark.slow
def test_trainings_are_measured_without_mlflow(tmp_path: Path) -> None:
    (tmp_path / "mlflow.py").write_text("raise ImportError('there is no MLflow here')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(BENCHMARKS)])}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0
