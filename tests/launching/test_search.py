"""A search: what is asked of Optuna and told to it, whatever becomes of the command. Nothing is trained here."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from support import SMALL, _composer

from ncexp.config import ConfigError
from ncexp.launching import search as searching
from ncexp.launching.launcher import CheckedLauncher
from ncexp.launching.plan import Asked
from ncexp.launching.search import Search, distribution, grid_of, seed_of
from ncexp.launching.states import Standing
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import Busy, State
from ncexp.record.study import load_study, open_storage
from ncexp.report.search import importances, read_search, trials

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


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search]:
    """start(*words, n_trials=...) → a search of test/error, which is 1 − log10(lr) here."""
    monkeypatch.setattr(searching, "read_run", lambda path: path)
    monkeypatch.setattr(searching, "values_of", lambda run, names: [_value(run)] * len(names))
    monkeypatch.setattr(searching, "TYPED", [])
    monkeypatch.setattr(Scripted, "ends", lambda count: State.COMPLETED)

    def build(*words: str, **options: Any) -> Search:
        fixed = [word for word in SMALL if not word.startswith(("optimizer.lr", "loss="))]
        words = (*fixed, "objective=test/error", f"outputs={tmp_path}", *(words or WORDS))
        overrides = OverridesParser.create().parse_overrides([*words])
        return Search(Scripted(), _composer("config"), overrides, {**OPTIONS, **options})

    return build


def _value(run: Path) -> float:
    return 1 - math.log10(float(run.name.partition("_lr")[2].partition("_")[0]))


def _plain(number: int, **options: Any) -> list[dict[str, Any]]:
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


def _study(search: Search) -> optuna.Study:
    return load_study(search._sweep.path / "study.journal")


def test_suggestions_are_those_of_plain_optuna(start: Any) -> None:
    search = start(n_trials=14)
    assert search.run() == []
    assert [trial.params for trial in _study(search).trials] == _plain(14)


@pytest.mark.parametrize("kill", range(0, 14, 3))
def test_search_that_is_killed_ends_with_the_same_trials(start: Any, kill: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(Scripted, "ends", lambda count: Killed if count == kill else State.COMPLETED)
    first = start(n_trials=14)
    with pytest.raises(Killed):
        first.run()
    monkeypatch.setattr(Scripted, "ends", lambda count: State.COMPLETED)
    second = start(n_trials=14)
    assert second.run() == []
    assert [trial.params for trial in _study(second).trials] == _plain(14)
    assert {trial.state.name for trial in _study(second).trials} == {"COMPLETE"}
    once = first._launcher.ran[: 2 * (kill // 2)] + second._launcher.ran
    assert len(once) == len({*once}) == 14  # a whole batch was told, the one that was killed not


def test_search_killed_amid_a_suggestion_goes_on(start: Any, monkeypatch: Any) -> None:
    """A trial that has one of its two parameters gets the other one; none is lost, none is there twice."""
    search, asked = start(), []

    def suggest(trial: optuna.Trial, name: str, one: Any) -> Any:
        if len(asked) == 3:
            raise Killed
        asked.append(name)
        return ask(trial, name, one)

    ask = optuna.Trial._suggest
    monkeypatch.setattr(optuna.Trial, "_suggest", suggest)
    with pytest.raises(Killed):
        search.run()
    monkeypatch.setattr(optuna.Trial, "_suggest", ask)
    assert [len(trial.params) for trial in _study(search).trials] == [2, 1]
    again = start()
    again.run()
    assert [len(trial.params) for trial in _study(again).trials] == [2] * 6
    assert len({*again._launcher.ran}) == 6


def test_same_command_again_runs_nothing_and_more_trials_go_on(start: Any) -> None:
    start().run()
    again = start()
    assert again.run() == []
    assert again._launcher.ran == []
    more = start(n_trials=8)
    more.run()
    assert len(more._launcher.ran) == 2
    assert len(_study(more).trials) == 8
    assert more._sweep.path == again._sweep.path


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["optimizer.lr=tag(log,interval(1e-3,2))", "loss=mse,cross_entropy"], {}),
        (["optimizer.lr=interval(1e-3,1)", "loss=mse,cross_entropy"], {}),
        ([*WORDS, "objective=train/error"], {}),
        ([*WORDS, "direction=maximize"], {}),
        ([*WORDS, "seed=1"], {}),
        (WORDS, {"sampler": "random"}),
        (WORDS, {"seed": 1}),
        (WORDS, {"study_name": "mine"}),
    ],
)
def test_another_search_has_another_folder(start: Any, words: list[str], options: dict[str, Any]) -> None:
    assert start(*words, **options)._sweep.path != start()._sweep.path


def test_failed_and_diverged_trials_are_told_as_such_and_bounded(start: Any, monkeypatch: Any) -> None:
    ends = [State.FAILED, State.COMPLETED, State.DIVERGED, State.PRUNED, State.COMPLETED, State.COMPLETED]
    monkeypatch.setattr(Scripted, "ends", lambda count: ends[count])
    search = start()
    assert search.run() == []
    names = ["FAIL", "COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE"]
    assert [trial.state.name for trial in _study(search).trials] == names
    strict = start(n_trials=6, max_failure_rate=0.2, seed=1)
    assert strict.run() == [State.FAILED]
    assert len(strict._launcher.ran) == 4  # with two of six failed no third batch begins
    assert "2 of 6 trials failed or diverged, more than hydra.sweeper.max_failure_rate=0.2" in "".join(
        strict._launcher.lines
    )


@pytest.mark.parametrize("state", [State.KILLED, State.LOST, State.INTERRUPTED, State.BUSY, State.DAMAGED])
def test_trial_that_can_go_on_stays_open_and_is_first_in_the_next_command(
    start: Any, state: State, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Scripted, "ends", lambda count: state if count == 1 else State.COMPLETED)
    search = start()
    assert search.run() == [state]
    assert [trial.state.name for trial in _study(search).trials] == ["COMPLETE", "RUNNING"]
    monkeypatch.setattr(Scripted, "ends", lambda count: State.COMPLETED)
    again = start()
    assert again.run() == []
    assert again._launcher.ran[0] == search._launcher.ran[1]
    assert len(_study(again).trials) == 6


def test_run_that_two_trials_ask_for_is_one(start: Any) -> None:
    search = start("loss=mse,cross_entropy", "optimizer.lr=0.1", n_trials=6, sampler="random")
    search.run()
    assert len({*search._launcher.ran}) == 2
    assert len(_study(search).trials) == 6
    assert len(search._sweep.entries()) == 2


def test_grid_has_each_combination_once_and_no_more(start: Any) -> None:
    search = start("loss=mse,cross_entropy", "optimizer.lr=0.1,0.2", "epochs=range(2,5)", n_trials=50, sampler="grid")
    assert search.run() == []
    found = [tuple(sorted(trial.params.items())) for trial in _study(search).trials]
    assert len(found) == len({*found}) == 12


def test_cmaes_goes_on_where_it_was(start: Any) -> None:
    words = ["optimizer.lr=tag(log,interval(1e-3,1))", "optimizer.weight_decay=tag(log,interval(1e-5,1e-1))"]
    whole = start(*words, n_trials=12, sampler="cmaes")
    whole.run()
    expected = [trial.params for trial in _study(whole).trials]
    for number in (3, 8, 12):
        parts = start(*words, n_trials=number, sampler="cmaes", study_name="parts", n_jobs=1)
        parts.run()
    assert len(_study(parts).trials) == 12
    assert len({str(trial.params) for trial in _study(parts).trials}) == 12
    assert len(expected) == 12


def test_only_one_command_makes_a_search(start: Any) -> None:
    search = start()
    with FileLock(search._sweep.path / ".search.lock"), pytest.raises(Busy, match="expected a search that no process"):
        search.run()


def test_objective_that_is_not_measured_ends_the_search_and_is_told_later(start: Any, monkeypatch: Any) -> None:
    def lacking(run: Path, names: list[str]) -> list[float]:
        raise ConfigError("objective: expected a number that small has, got test/robustness/ratio.")

    values = searching.values_of
    monkeypatch.setattr(searching, "values_of", lacking)
    search = start()
    with pytest.raises(ConfigError, match="expected a number that small has"):
        search.run()
    monkeypatch.setattr(searching, "values_of", values)
    again = start(*WORDS, "analysis=[collapse,robustness]")
    assert again.run() == []
    assert again._launcher.ran[:2] == search._launcher.ran
    assert [trial.params for trial in _study(again).trials] == _plain(6)


def test_values_that_are_not_finite_are_failures(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(searching, "values_of", lambda run, names: None)
    search = start(n_trials=2, max_failure_rate=1.0)
    assert search.run() == []
    assert [trial.state.name for trial in _study(search).trials] == ["FAIL", "FAIL"]


def test_several_objectives_have_a_pareto_front(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(searching, "values_of", lambda run, names: [_value(run), -_value(run)])
    search = start(*WORDS, "objective=[test/error,train/collapse/nc1_trace]")
    search.run()
    found = read_search(search._sweep.path)
    assert len(found.best) == 6
    assert [line.split()[0] for line in found.words()] == ["best", "command"] * 6


def test_tables_of_a_search_say_what_the_study_has(start: Any) -> None:
    search = start(n_trials=12)
    search.run()
    found = read_search(search._sweep.path)
    table = trials(found)
    assert table.columns == ["trial", "state", "test/error", "optimizer.lr", "loss"]
    assert [row[0] for row in table.rows] == [*map(str, range(12))]
    best = max(_plain(12), key=lambda one: one["optimizer.lr"])
    assert found.best[0].params == best
    command = f"optimizer.lr={best['optimizer.lr']} loss={best['loss']}"
    assert found.words()[1].startswith("command   ncexp dataset=gaussian_mixture ")
    assert found.words()[1].endswith(command)
    mattered = importances(found)
    assert mattered is not None
    assert mattered.rows[0][0] == "optimizer.lr"
    assert sum(int(str(row[1])) for row in mattered.rows) in (99, 100, 101)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=interval(1e-3,1)", FloatDistribution(1e-3, 1.0)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,interval(1e-5,1e-1))", FloatDistribution(1e-5, 1e-1, log=True)),
        ("a=tag(log,int(interval(1,8)))", IntDistribution(1, 8, log=True)),
        ("a=choice(x,y)", CategoricalDistribution(["x", "y"])),
        ("a=x,[1,2]", CategoricalDistribution(["x", "[1,2]"])),
        ("a=range(1,9,2)", IntDistribution(1, 7, step=2)),
        ("a=range(0.25,1.5,0.5)", FloatDistribution(0.25, 1.25, step=0.5)),
    ],
)
def test_words_are_what_users_of_hydras_plugin_know(word: str, expected: Any) -> None:
    assert distribution(OverridesParser.create().parse_override(word)) == expected


def test_range_of_a_grid_has_the_values_that_hydra_sweeps() -> None:
    override = OverridesParser.create().parse_override("a=range(0.1,0.6,0.1)")
    swept = [float(value) for value in override.sweep_string_iterator()]
    assert grid_of({"a": distribution(override)})["a"] == pytest.approx(swept)


REFUSED = {
    "objective: expected what the search looks for": (["objective=null", *WORDS], {}),
    "objective: expected a quantity or package.module.function, got 'test/eror'. .* Did you mean test/error": (
        ["objective=test/eror", *WORDS], {}),
    "objective: expected an importable package.module.callable": (["objective=no.such.function", *WORDS], {}),
    r"Of several objectives it is objective=\[test/error,train/error\]": (
        ["objective=test/error,train/error", *WORDS], {}),
    "direction: expected one for each of 1 objectives, got 2": (["direction=[minimize,maximize]", *WORDS], {}),
    "direction: expected 'minimize' or 'maximize', or a list, got 'down'": (["direction=down", *WORDS], {}),
    "direction: expected minimize or maximize for test/loss, got none": (["objective=test/loss", *WORDS], {}),
    "direction: expected one, got maximize and hydra.sweeper.direction=minimize": (
        ["direction=maximize", *WORDS], {"direction": "minimize"}),
    "optimizer.lrr: no such key. .* Did you mean lr": (["optimizer.lrr=interval(0.1,1)"], {}),
    "optimizer.lr: expected a value greater than 0, got -1": (["optimizer.lr=interval(-1,1)"], {}),
    "epochs: expected an integer, got 1.0": (["epochs=interval(1,3)"], {}),
    "threads: expected one value for one run, got 1 and 2": (["threads=1,2"], {}),
    r"lr: expected bounds that can be searched, got interval\(1,0.1\)": (["optimizer.lr=interval(1,0.1)"], {}),
    r"batch_size: expected bounds that can be searched, got range\(5,1\)": (["batch_size=range(5,1)"], {}),
    r"expected tag\(log,interval": (["optimizer.lr=tag(x,interval(0.1,1))"], {}),
    "expected a key to search, got none": (["optimizer.lr=0.1"], {}),
    "hydra.sweeper.n_trials: expected at least 1, got 0": (WORDS, {"n_trials": 0}),
    "hydra.sweeper.n_jobs: expected at least 1, got 0": (WORDS, {"n_jobs": 0}),
    "hydra.sweeper.max_failure_rate: expected 0 to 1, got 2": (WORDS, {"max_failure_rate": 2}),
    "hydra.sweeper.sampler: no such sampler, 'tpee'. .* Did you mean tpe": (WORDS, {"sampler": "tpee"}),
    "hydra.sweeper.pruner: no such pruner, 'medan'. .* Did you mean median": (WORDS, {"pruner": "medan"}),
    "hydra.sweeper.pruner: expected one objective, got 2": (
        ["objective=[test/error,train/error]", *WORDS], {"pruner": "median"}),
    "optimizer.lr: expected values for sampler=grid, got an interval": (WORDS, {"sampler": "grid"}),
    "sampler=cmaes: expected an interval or range, got lists": (["loss=mse,cross_entropy"], {"sampler": "cmaes"}),
    "sampler=cmaes: expected one objective, got 2": (
        ["objective=[test/error,train/error]", *WORDS], {"sampler": "cmaes"}),
    "hydra.sweeper.study_name: expected 1 to 64 letters": (WORDS, {"study_name": "a/b"}),
}  # fmt: skip


@pytest.mark.parametrize("expected", REFUSED)
def test_bad_search_is_refused_before_anything_is_written(start: Any, tmp_path: Path, expected: str) -> None:
    words, options = REFUSED[expected]
    with pytest.raises(ConfigError, match=expected):
        start(*words, **options)
    assert not [*tmp_path.iterdir()]


def test_cmaes_without_its_package_is_refused(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(ConfigError, match=r"sampler=cmaes: expected its package, got none\. pip install cmaes"):
        start(*WORDS, sampler="cmaes")


def test_launcher_that_does_not_wait_is_refused(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Scripted, "waits", False)
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.wait: expected true"):
        start()


def test_combination_that_cannot_be_run_is_a_failed_trial(start: Any, monkeypatch: Any) -> None:
    """The space as such was checked; this one is found when it is suggested."""
    fault = SimpleNamespace(count=0)

    def faults(configs: Any) -> list[Any]:
        fault.count += 1
        return [(None, "batch_size: expected another.")] if fault.count == 2 else []

    monkeypatch.setattr(searching, "faults_of_parts", faults)
    search = start()
    assert search.run() == []
    assert [trial.state.name for trial in _study(search).trials] == ["COMPLETE", "FAIL", *["COMPLETE"] * 4]
    assert "trial 1  refused: batch_size: expected another." in search._launcher.lines
    again = start(n_trials=7)
    assert again.run() == []


def test_half_a_line_of_a_journal_is_cut_before_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = optuna.create_study(storage=open_storage(path), study_name="one")
    study.tell(study.ask(SPACE), 1.0)
    whole = path.read_bytes()
    study.ask(SPACE)
    path.write_bytes(path.read_bytes()[:-7])
    again = load_study(path)
    assert [trial.state.name for trial in again.trials] == ["COMPLETE", "RUNNING"]
    again.tell(1, state=optuna.trial.TrialState.FAIL)
    assert [trial.state.name for trial in load_study(path).trials] == ["COMPLETE", "FAIL"]
    assert path.read_bytes().startswith(whole)
