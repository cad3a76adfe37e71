"""What a search came to: its trials, how much each key matters, the best trial's command, and its history."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from matplotlib import pyplot
from matplotlib.figure import Figure

from ncexp.config import ConfigError
from ncexp.record import DamagedFile, SavedRun
from ncexp.record.objective import STUDY
from ncexp.record.quantities import find
from ncexp.record.text import printable
from ncexp.report.style import COLOURS, RED, finish, scale_axis
from ncexp.report.tables import Table

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

#: Optuna's states in the words of this package.
STATES = {"COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "open", "WAITING": "open"}


@dataclass(frozen=True)
class Search:
    """A study as it stands. command: the words that are before a trial's own in the command of its run."""

    study: Study
    objectives: list[str]
    command: list[str]

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them, in their order."""
        return self.study.get_trials(deepcopy=False)

    @property
    def completed(self) -> list[FrozenTrial]:
        """Those with values."""
        return [trial for trial in self.trials if trial.state.name == "COMPLETE"]

    @property
    def is_of_several(self) -> bool:
        """Whether it has several objectives, of which no trial need be the best in all."""
        return len(self.objectives) > 1

    @property
    def keys(self) -> list[str]:
        """What was searched."""
        return list(dict.fromkeys(key for trial in self.trials for key in trial.params))

    @property
    def best(self) -> list[FrozenTrial]:
        """The best trial, the first of equals; of several objectives those that no other one dominates."""
        if not self.completed:
            return []
        return [self.study.best_trial] if len(self.objectives) == 1 else self.study.best_trials

    def command_of(self, trial: FrozenTrial) -> str:
        """The command that shows the trial's run, and trains it where it is not there."""
        words = ["ncexp", *self.command, *(f"{key}={value}" for key, value in trial.params.items())]
        return printable(shlex.join(words))

    def words(self) -> list[str]:
        """The last lines of a search: how many trials, the best and its command; of several objectives all the best."""
        count = f"{len(self.completed)} of {len(self.trials)} trials completed"
        if not self.best:
            return [f"best      none: {count}"]
        lines = []
        for trial in self.best:
            pairs = zip(self.objectives, trial.values, strict=True)
            values = ", ".join(f"{name} {value:.6g}" for name, value in pairs)
            lines.append(f"best      {values}: trial {trial.number}; {count}")
            lines.append(f"command   {self.command_of(trial)}")
        return lines


def search_of(runs: Iterable[SavedRun]) -> Search | None:
    """The search whose trials all of these runs are, the latest of several; None where there is none.

    It is looked for in the sweeps beside the first run. Raises as `read_search`.
    """
    listed = list(runs)
    studies = listed[0].path.parent.glob(f"sweeps/*/{STUDY}") if listed else ()
    for path in sorted(studies, key=lambda path: -path.stat().st_mtime):
        keys = {link.name.rpartition("_")[2] for link in (path.parent / "runs").glob("*")}
        if all(run.key in keys for run in listed):
            return read_search(path.parent)
    return None


def read_search(folder: Path) -> Search:
    """The search of a sweep's folder.

    Raises DamagedFile for a study that cannot be read, ConfigError where Optuna is not installed.
    """
    try:
        from ncexp.record.study import load_study
    except ImportError as error:
        raise ConfigError(f"{folder}: expected Optuna, got none. pip install 'ncexp[optuna]' installs it.") from error
    study = load_study(folder / STUDY)
    names, command = study.user_attrs.get("objectives"), study.user_attrs.get("command")
    if not _is_words(names) or not _is_words(command) or len(names) != len(study.directions):
        raise DamagedFile(
            f"{folder / STUDY}: expected the objectives of a search and its command, got others. Set it aside."
        )
    return Search(study, names, command)


def _is_words(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def trials(search: Search) -> Table:
    """A row a trial, in their order."""
    rows = [
        [str(trial.number), STATES[trial.state.name]]
        + [f"{value:.6g}" for value in trial.values or []]
        + ["–"] * (len(search.objectives) - len(trial.values or []))
        + [_word(trial.params.get(key, "")) for key in search.keys]
        for trial in search.trials
    ]
    return Table.of("trials", "The trials of the search", ["trial", "state", *search.objectives, *search.keys], rows)


def pareto(search: Search) -> Table:
    """The trials that no other one is better than in every objective."""
    rows = [
        [str(trial.number), *(f"{value:.6g}" for value in trial.values), *map(_word, trial.params.values())]
        for trial in search.best
    ]
    columns = ["trial", *search.objectives, *search.keys]
    return Table.of("pareto", "Trials that no other one is better than in every objective", columns, rows)


def importances(search: Search) -> Table | None:
    """How much of the spread of each objective each key explains, by Optuna's fANOVA over the completed trials.

    None where that is not defined: fewer than two trials, or all of one value.
    """
    if len(search.completed) < 2:
        return None
    import optuna

    shares: list[dict[str, float]] = []
    for place in range(len(search.objectives)):
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        try:
            target = lambda trial, place=place: trial.values[place]  # noqa: E731
            shares.append(optuna.importance.get_param_importances(search.study, evaluator=evaluator, target=target))
        except RuntimeError:  # no variance to explain
            return None
    keys = sorted(shares[0], key=lambda key: -shares[0][key])
    rows = [[key, *(f"{100 * one[key]:.0f}" for one in shares)] for key in keys]
    return Table.of("importances", "How much each key matters, %", ["key", *search.objectives], rows)


def history(search: Search) -> Figure:
    """Of each objective its value by trial, and the best one so far."""
    count = len(search.objectives)
    figure, panels = pyplot.subplots(count, squeeze=False, figsize=(6, 3 * count), layout="constrained")
    numbers = [trial.number for trial in search.completed]
    for place, (axes, name) in enumerate(zip(panels[:, 0], search.objectives, strict=True)):
        values = [trial.values[place] for trial in search.completed]
        better = min if search.study.directions[place].name == "MINIMIZE" else max
        axes.plot(numbers, values, "o", color=COLOURS["mse"], label="a trial")
        axes.step(numbers, [*accumulate(values, better)], where="post", color=RED, label="the best so far")
        if (row := find(name)) is not None:
            scale_axis(axes, row)
        axes.set(xlabel="trial", ylabel=name)
        finish(axes)
    return figure


def _word(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
