"""hydra/launcher=local: the same sweep on this machine, several at once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .conftest import Project, until

pytestmark = pytest.mark.slow


def test_local_sweep_trains_several_at_once_and_one_failing_stops_nothing(project: Project) -> None:
    behaviours = "architecture.behaviour=calm,raise,killed,diverge"
    code, said = project.sweep(behaviours, "hydra.launcher.runs_at_once=4", launcher="local")
    assert code == 3, said
    assert project.states() == ["completed", "failed", "failed", "diverged"]
    assert "1 completed, 1 diverged, 2 failed" in said
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
    logs = [(Path(entry["directory"]) / "run.log").read_text() for entry in project.manifest()]
    assert ["resumed " in log for log in logs] == [True, True, False]
