"""hydra/launcher=local: the same sweep on this machine, several at once."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, until

pytestmark = pytest.mark.slow


def _log(entry: dict[str, Any]) -> str:
    return (Path(entry["directory"]) / "run.log").read_text()


def test_local_sweep_trains_several_at_once_and_one_failing_stops_nothing(project: Project) -> None:
    behaviours = "architecture.behaviour=calm,raise,killed,diverge"
    code, said = project.sweep(behaviours, "hydra.launcher.runs_at_once=2", launcher="local")
    assert code == 3, said
    assert project.states() == ["completed", "failed", "failed", "diverged"]
    assert "1 completed, 1 diverged, 2 failed" in said
    assert "killed by SIGKILL" in project.status(project.manifest()[2])["message"]
    (project.folder / "cured").touch()
    code, said = project.sweep(behaviours, launcher="local")
    assert "to submit 2: 2 failed; left alone 2: 1 completed, 1 diverged" in said
    assert project.states() == ["completed", "completed", "completed", "diverged"]


def test_local_sweep_saves_its_runs_when_interrupted_and_goes_on(project: Project) -> None:
    hold = project.hold()
    arguments = project.sweep_arguments("seed=1,2,3", "epochs=1000", launcher="local")
    sweep = project.start(*arguments)
    until(lambda: len(list(project.outputs.glob("*/journal.jsonl"))) == 2, "two trainings at once")
    assert "2 running, 1 queued" in project.run("status", "last")[1]
    sweep.send_signal(signal.SIGINT)
    said, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, said
    assert project.states()[:2] == ["interrupted", "interrupted"]
    hold.unlink()
    code, said = project.run(*arguments)
    assert code == 0, said
    assert "2 interrupted" in said
    assert ["resumed " in _log(entry) for entry in project.manifest()] == [True, True, False]


def test_local_sweep_of_one_process_sends_every_run_to_mlflow(project: Project) -> None:
    code, said = project.sweep("seed=1,2", "hydra.launcher.runs_at_once=1", launcher="local", tracking=True)
    assert code == 0, said
    entries = project.manifest()
    assert len({project.status(entry)["pid"] for entry in entries}) == 1
    pages = [re.findall(r"MLflow .*#/experiments/1/runs/(\w+)", _log(entry)) for entry in entries]
    assert [len(page) for page in pages] == [1, 1]
    assert pages[0] != pages[1]
