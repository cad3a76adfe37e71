"""That every benchmark runs, in short; those of trainings also where MLflow is not installed, as on a lent GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from synthetic_sweep import write_run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = """
import analysis, arithmetic, grid_cost, runs_at_once, training_epoch
from workloads import assembled, configured, evaluated, generated, train_epoch
assembly = assembled(generated(40, (1, 8, 8), num_test=20), "batch_size=16")
train_epoch(assembly)
print(evaluated(assembly, configured())["train/collapse/nc1_trace"])
"""

#: What the short forms need beside --short.
WORDS = {
    "reference_alarms": ["SEEDS", "--short"],
    "regimes": ["OUTPUTS", "--short"],
}
#: What the others import; full_collapse is run by a test of its numbers, test_full_collapse.py.
NO_COMMANDS = {"timing", "workloads", "float32_analysis", "full_collapse"}
NAMES = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in NO_COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_benchmark_runs_in_short(name: str, tmp_path: Path) -> None:
    words = [str(tmp_path) if word == "OUTPUTS" else word for word in WORDS.get(name, ["--short"])]
    if "SEEDS" in words:
        for seed in range(12):
            write_run(tmp_path / "SEEDS", seed=seed)
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *words]
    warm.commands(programs := tmp_path / "programs")  # the `ncexp` and `python` that first_hour types
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.cold
def test_trainings_are_measured_without_mlflow(tmp_path: Path) -> None:
    (tmp_path / "mlflow.py").write_text("raise ImportError('there is no MLflow here')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(BENCHMARKS)])}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0
