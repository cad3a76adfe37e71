"""Sweeps of measurings: `ncexp measure` over stored runs, in turn, several at once here, and on SLURM."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from support import journals
from sweeps import LAUNCHERS, SMALL, Project

pytestmark = [pytest.mark.slow]  # one cluster, of two processors

ROBUSTNESS = ["analysis=[robustness]", "analysis.robustness.num_examples=10"]
WITH_MORE = ["analysis=[collapse,robustness]", "analysis.robustness.num_examples=10"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three completed runs with the weights of every epoch."""
    project = Project(tmp_path_factory.mktemp("trained"))
    project.succeed("seed=1,2,3", "epochs=3", "keep.checkpoints=evaluated", launcher="none")
    return project


@pytest.fixture
def copied(trained: Project, project: Project) -> Project:
    """The three runs in a project of the test's own."""
    shutil.copytree(trained.outputs, project.outputs)
    return project


def robustness(project: Project) -> list[list[int]]:
    """The epochs at which each run's robustness is measured."""
    found = []
    for run in sorted(project.outputs.glob("*/config.yaml")):
        paths = sorted((run.parent / "measurements").glob("robustness_*.jsonl"))
        found.append([json.loads(line)["epoch"] for path in paths for line in path.read_text().splitlines()])
    return found


@pytest.fixture(scope="module")
def with_more(trained: Project) -> Path:
    """The second run, trained with robustness from the start."""
    words = ["tracking.enabled=false", "seed=2", "epochs=3", "outputs=anew", *WITH_MORE]
    code, printed = trained.run("--config-dir", "choices", *SMALL, *words)
    assert code == 0, printed
    (run,) = (trained.folder / "anew").glob("*_*/")
    return run


@pytest.mark.parametrize("launcher", ["none", "local", "slurm"])
def test_measure_adds_what_a_training_would_have_measured(
    copied: Project, with_more: Path, launcher: str, request: pytest.FixtureRequest
) -> None:
    if launcher == "slurm":
        request.getfixturevalue("slurm")
    training = [*copied.outputs.glob("*/training.jsonl")]
    before = [path.stat().st_mtime_ns for path in training]
    code, printed = copied.run("measure", "-m", "outputs", *ROBUSTNESS, "device=cpu", *LAUNCHERS[launcher])
    assert code == 0, printed
    assert "3 completed" in printed
    assert robustness(copied) == [[1, 2, 3]] * 3
    if launcher == "none":
        assert printed.count("\ntest robustness ") == 3, "each run's numbers"
    assert re.search("^ *seeds +test error % +NC1 +robustness", printed, re.MULTILINE), printed
    assert "\nverdict   this setting: test error " in printed
    assert [path.stat().st_mtime_ns for path in training] == before, "something was trained"
    assert journals(copied.outputs / with_more.name) == journals(with_more)


def test_measure_again_does_only_what_is_missing(copied: Project) -> None:
    first, second, third = sorted(run.parent.name for run in copied.outputs.glob("*/config.yaml"))
    command = [*ROBUSTNESS, "device=cpu", *LAUNCHERS["local"]]
    assert copied.run("measure", "-m", first, *command)[0] == 0
    code, printed = copied.run("measure", "-m", first.rpartition("_")[2], second, third[:-3], *command)
    assert code == 0, printed
    assert "to submit 2: 2 new; left alone 1: 1 completed" in printed
    (sweep,) = (path for path in (copied.outputs / "sweeps").iterdir() if "2 new" in printed and _count(path) == 3)
    assert sweep.name.startswith("measure-robustness_")
    for journal in copied.outputs.glob("*/measurements/robustness_*.jsonl"):
        _cut(journal)
    code, printed = copied.run("measure", "-m", sweep.name, *command)
    assert code == 0, printed
    assert "to submit 3: 3 completed" in printed, "completed, but there are epochs to measure"
    assert robustness(copied) == [[1, 2, 3]] * 3
    code, printed = copied.run("status", sweep.name, "--all")
    assert "3 completed" in printed


def _count(sweep: Path) -> int:
    return (sweep / "manifest.jsonl").read_text().count("\n")


def _cut(journal: Path) -> None:
    """As if another epoch had become measurable since."""
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))


def test_measure_of_one_run_that_fails_does_not_stop_the_others(copied: Project) -> None:
    second = sorted(run.parent for run in copied.outputs.glob("*/config.yaml"))[1]
    shutil.rmtree(second / "checkpoints")
    for launcher in ("none", "local"):
        code, printed = copied.run("measure", "-m", "outputs", *ROBUSTNESS, "device=cpu", *LAUNCHERS[launcher])
        assert code == 1, printed
        assert "2 completed, 1 failed" in printed
        assert "robustness: can be had at no epoch" in printed
    assert [len(epochs) for epochs in robustness(copied)] == [3, 0, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "RUN: expected a run's directory, name or key"),
        (["nonsense"], "nonsense: expected a run under outputs, got none of this name or key. Valid: "),
        (["outputs", "analysis=[robustnes]"], "no such choice, 'robustnes'"),
        (
            ["outputs", "analysis=[robustness]", "analysis.robustness.num_examples=0"],
            "analysis.robustness.num_examples",
        ),
        (["outputs", "epochs=7"], "epochs"),
    ],
)
def test_measure_refuses_before_anything_is_measured(trained: Project, words: list[str], message: str) -> None:
    code, printed = trained.run("measure", *words)
    assert (code, message in printed, "Traceback" in printed) == (2, True, False), printed
    assert robustness(trained) == [[], [], []]


def test_sweep_of_trained_runs_measures_what_they_lack(project: Project) -> None:
    words = ["seed=1,2", "epochs=2", "keep.checkpoints=evaluated"]
    project.succeed(*words, launcher="local")
    (sweep,) = (project.outputs / "sweeps").iterdir()
    assert "to submit 2: 2 new" in project.succeed(*words, *WITH_MORE, launcher="local")
    assert robustness(project) == [[1, 2], [1, 2]]
    assert [path.name for path in (project.outputs / "sweeps").iterdir()] == [sweep.name], "it asks for the same runs"
    printed = project.succeed(*words, *WITH_MORE, launcher="local")
    assert "to submit 0: none; left alone 2: 2 completed" in printed
