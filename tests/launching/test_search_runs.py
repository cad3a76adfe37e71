"""A search with real trainings: its trials are runs like any other, pruned ones go on, and kills lose nothing."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import PATIENCE_S, SMALL, Compose, journals
from sweeps import Project, processes, until

from ncexp.cli.hydra_task import compose_and_work
from ncexp.main import run
from ncexp.record import State, load
from ncexp.record.study import load_study

pytestmark = pytest.mark.slow

SPACE = ["optimizer.lr=tag(log,interval(1e-5,0.02))", "optimizer.weight_decay=tag(log,interval(1e-5,1e-2))"]
SEARCH = ["hydra/sweeper=optuna", "objective=test/loss", "direction=minimize", *SPACE]


@pytest.fixture
def command(outputs: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None) -> Any:
    """command(*words) → the states that `ncexp -m` ends with, in this process."""
    monkeypatch.setattr(sys, "argv", ["ncexp"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    small = [word for word in SMALL if not word.startswith("optimizer.lr")]
    fixed = ["-m", *small, f"outputs={outputs}", "tracking.enabled=false"]
    return lambda *words: compose_and_work("config", [*fixed, *words])


def _study(outputs: Path) -> Any:
    (path,) = outputs.glob("sweeps/*/study.journal")
    return load_study(path)


@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
def test_pruned_run_asked_for_alone_ends_like_one_never_pruned(
    command: Any, outputs: Path, composed: Compose, console: Console, tmp_path: Path, pruner: str
) -> None:
    every = "evaluate_at=[1,2,3,4,5,6]"
    words = [*SEARCH, every, f"hydra.sweeper.pruner={pruner}", "hydra.sweeper.n_trials=12", "hydra.sweeper.n_jobs=1"]
    assert command(*words) == []
    study = _study(outputs)
    assert len(study.trials) == 12
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    runs = {one.raw["optimizer"]["lr"]: one for one in load(outputs)}
    assert [one.state for one in runs.values()].count(State.PRUNED) == len(pruned) >= 1
    for trial in pruned:
        saved = runs[trial.params["optimizer.lr"]]
        assert saved.message.startswith(f"epoch {trial.last_step} of 6: the search's pruner")
        assert trial.intermediate_values == {one["epoch"]: one["test/loss"] for one in saved.records}
    last = runs[pruned[0].params["optimizer.lr"]].path
    begun = journals(last)
    own = [f"{key}={value}" for key, value in pruned[0].params.items()]
    assert run(composed(*own, every, "tracking.enabled=false"), console) is State.COMPLETED
    assert "resumed" in console.file.getvalue()  # type: ignore[attr-defined]
    elsewhere = composed(*own, every, "tracking.enabled=false", f"outputs={tmp_path / 'undisturbed'}")
    assert run(elsewhere, console) is State.COMPLETED
    assert journals(last) == journals(tmp_path / "undisturbed" / last.name)
    assert all(journals(last)[name].startswith(rows) for name, rows in begun.items())
    trials = len(study.trials)
    assert command(*words) == []
    assert len(_study(outputs).trials) == trials  # what was told stays told


def test_training_does_not_depend_on_the_study(
    composed: Compose, console: Console, tmp_path: Path, no_figures: None
) -> None:
    raw = composed("objective=test/error", "tracking.enabled=false")
    trial = {"study": str(tmp_path / "nowhere" / "study.journal"), "number": 3, "pruner": "median"}
    assert run({**raw, "trial": trial}, console) is State.COMPLETED
    assert "search    not asked: " in console.file.getvalue()  # type: ignore[attr-defined]


def test_plain_sweep_returns_the_objectives(command: Any, monkeypatch: pytest.MonkeyPatch, outputs: Path) -> None:
    """As any sweeper of Hydra's interface gets them."""
    from hydra_plugins.ncexp import Sweeper

    returned: list[Any] = []
    runs = [["optimizer.lr=0.01"], ["optimizer.lr=1e30"]]

    def sweep(self: Sweeper, arguments: list[str]) -> None:
        returned.extend(self.launcher.launch([[*arguments, *run] for run in runs], 0))

    monkeypatch.setattr(Sweeper, "sweep", sweep)
    assert command("objective=test/error") == [State.COMPLETED, State.DIVERGED]
    (completed,) = (one for one in load(outputs) if one.state is State.COMPLETED)
    first, second = (one.return_value for one in returned)
    assert first == completed.records[-1]["test/error"]
    assert second != second


def test_objective_may_be_a_function_of_a_run(command: Any, outputs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "ours.py").write_text("def area(run):\n    return sum(one['test/error'] for one in run.records)\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["hydra/sweeper=optuna", SPACE[0], "objective=ours.area", "direction=minimize"]
    assert command(*words, "hydra.sweeper.n_trials=2", "hydra.sweeper.pruner=median") == []
    found = {one.raw["optimizer"]["lr"]: sum(row["test/error"] for row in one.records) for one in load(outputs)}
    for trial in _study(outputs).trials:
        assert trial.value == found[trial.params["optimizer.lr"]]
        assert [*trial.intermediate_values] == [1, 2, 4, 6][: len(trial.intermediate_values)]


#: A search of twenty trials of some seconds each, five batches.
TWENTY = [
    "hydra/sweeper=optuna",
    "optimizer.lr=tag(log,interval(1e-4,0.1))",
    "objective=test/loss",
    "direction=minimize",
    "epochs=20",
    "evaluate_at=[1,5,10,20]",
    "hydra.sweeper.n_trials=20",
    "hydra.sweeper.n_jobs=4",
]
#: How often the command is killed, and the longest time before a kill.
KILLS, PAUSE_S = 5, 30.0


def _found(outputs: Path) -> tuple[list[dict[str, float]], dict[str, dict[str, bytes]]]:
    """What each trial was, all of them complete, and the journals of their runs."""
    trials = _study(outputs).trials
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    return [trial.params for trial in trials], {one.path.name: journals(one.path) for one in load(outputs)}


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_search_killed_at_five_moments_ends_with_the_same_twenty_trials(
    project: Project, launcher: str, request: pytest.FixtureRequest
) -> None:
    if launcher == "slurm":
        request.getfixturevalue("slurm")
    code, printed = project.sweep(*TWENTY, "outputs=undisturbed", launcher="none")
    assert code == 0, printed
    trials, expected = _found(project.folder / "undisturbed")
    assert len(expected) == len({str(params) for params in trials}) == 20
    rng, left, searches = random.Random(launcher), KILLS, 0
    while left:  # a search that ends before its command was killed often enough is followed by another one
        searches += 1
        words = project.sweep_arguments(*TWENTY, f"outputs=disturbed_{searches}", launcher=launcher)
        command = project.start(*words)
        while command.returncode != 0:
            command = command if command.returncode is None else project.start(*words)
            try:
                printed, _ = command.communicate(timeout=rng.uniform(1, PAUSE_S) if left else PATIENCE_S)
            except subprocess.TimeoutExpired:
                command.kill()
                command.communicate()
                left -= 1
        assert (trials, expected) == _found(project.folder / f"disturbed_{searches}")
        assert "best      test/loss " in printed
        until(lambda: not processes(project.folder), "the end of every process")
    again, printed = project.run(*words)
    assert (again, _found(project.folder / f"disturbed_{searches}")) == (0, (trials, expected)), printed
