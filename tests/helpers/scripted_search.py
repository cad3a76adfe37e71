"""A search whose runs end at once as a test says: nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution
from support import SMALL, _composer

from ncexp.launching import search as searching
from ncexp.launching.launcher import CheckedLauncher
from ncexp.launching.plan import Asked
from ncexp.launching.search import Search, seed_of
from ncexp.launching.states import Standing
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import State
from ncexp.record.study import load_study

#: conf/hydra/sweeper/optuna.yaml
OPTIONS = {"n_trials": 6, "n_jobs": 2, "sampler": "tpe", "seed": 0, "pruner": None, "direction": None,
           "study_name": None, "max_failure_rate": 0.5}  # fmt: skip
#: What is searched, as the command line says it, and as one would tell Optuna.
WORDS = ["optimizer.lr=tag(log,interval(1e-3,1))", "loss=mse,cross_entropy"]
SPACE = {
    "optimizer.lr": FloatDistribution(1e-3, 1, log=True),
    "loss": CategoricalDistribution(["mse", "cross_entropy"]),
}


class Killed(BaseException):
    """As kill -9: nobody catches it."""


class Scripted(CheckedLauncher):
    """Ends every run at once, in the state that `ends` says by the number of runs before it; `ran` are their rates."""

    ends: Callable[[int], State | type[Killed]] = lambda count: State.COMPLETED

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def announce(self, sweep: SweepDirectory, asked: Sequence[Asked]) -> None:
        self.sweep = sweep

    def carry_out(self, sweep: SweepDirectory, asked: Sequence[Asked], wanted: Collection[int]) -> Standing:
        states: dict[int, State] = {}
        for num in wanted:
            end = type(self).ends(len(self.ran))
            if end is Killed:
                raise Killed
            states[num] = State(end)
            self.ran.append(asked[num].task.directory.name)
        return Standing(states, {}, set())

    def conclude(self, sweep: SweepDirectory, asked: Sequence[Asked], now: Standing) -> None:
        pass

    def name_of(self, asked: Sequence[Asked]) -> str:
        return "small"


def scripted_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search]:
    """start(*words, n_trials=...) → a search of test/error, which is 1 − log10(lr) here."""
    monkeypatch.setattr(searching, "read_run", lambda path: path)
    monkeypatch.setattr(searching, "values_of", lambda run, names: [value(run)] * len(names))
    monkeypatch.setattr(searching, "TYPED", [])
    monkeypatch.setattr(Scripted, "ends", lambda count: State.COMPLETED)

    def build(*words: str, **options: Any) -> Search:
        fixed = [word for word in SMALL if not word.startswith(("optimizer.lr", "loss="))]
        words = (*fixed, "objective=test/error", f"outputs={folder}", *(words or WORDS))
        overrides = OverridesParser.create().parse_overrides([*words])
        return Search(Scripted(), _composer("config"), overrides, {**OPTIONS, **options})

    return build


def value(run: Path) -> float:
    return 1 - math.log10(float(run.name.partition("_lr")[2].partition("_")[0]))


def plain(number: int, **options: Any) -> list[dict[str, Any]]:
    """The parameters of as many trials of plain Optuna, asked and told two at a time."""
    study = optuna.create_study()
    for first in range(0, number, 2):
        asked = []
        for place in (first, first + 1):
            study.sampler = optuna.samplers.TPESampler(seed=seed_of(0, place))
            asked.append(study.ask(SPACE))
        for trial in asked:
            study.tell(trial, 1 - math.log10(float(f"{trial.params['optimizer.lr']:g}")))
    return [trial.params for trial in study.trials]


def study_of(search: Search) -> optuna.Study:
    return load_study(search._sweep.path / "study.journal")
