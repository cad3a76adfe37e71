"""A search: what is asked of Optuna and told to it, whatever becomes of the command. Nothing is trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock
from scripted_search import WORDS, Killed, Scripted, plain, scripted_search, study_of

from ncexp.config import ConfigError
from ncexp.launching import search as searching
from ncexp.record import Busy, State


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return scripted_search(tmp_path, monkeypatch)


def test_suggestions_are_those_of_plain_optuna(start: Any) -> None:
    search = start(n_trials=14)
    assert search.run() == []
    assert [trial.params for trial in study_of(search).trials] == plain(14)


@pytest.mark.parametrize("kill", range(0, 14, 3))
def test_search_that_is_killed_ends_with_the_same_trials(start: Any, kill: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(Scripted, "ends", lambda count: Killed if count == kill else State.COMPLETED)
    first = start(n_trials=14)
    with pytest.raises(Killed):
        first.run()
    monkeypatch.setattr(Scripted, "ends", lambda count: State.COMPLETED)
    second = start(n_trials=14)
    assert second.run() == []
    assert [trial.params for trial in study_of(second).trials] == plain(14)
    assert {trial.state.name for trial in study_of(second).trials} == {"COMPLETE"}
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
    assert [len(trial.params) for trial in study_of(search).trials] == [2, 1]
    again = start()
    again.run()
    assert [len(trial.params) for trial in study_of(again).trials] == [2] * 6
    assert len({*again._launcher.ran}) == 6


def test_same_command_again_runs_nothing_and_more_trials_go_on(start: Any) -> None:
    start().run()
    again = start()
    assert again.run() == []
    assert again._launcher.ran == []
    more = start(n_trials=8)
    more.run()
    assert len(more._launcher.ran) == 2
    assert len(study_of(more).trials) == 8
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
    assert [trial.state.name for trial in study_of(search).trials] == names
    strict = start(n_trials=6, max_failure_rate=0.2, seed=1)
    assert strict.run() == [State.FAILED]
    assert len(strict._launcher.ran) == 4  # with two of six failed no third batch begins
    assert "of 6 trials more than hydra.sweeper.max_failure_rate=0.2 failed or diverged" in "".join(
        strict._launcher.lines
    )


@pytest.mark.parametrize("state", [State.KILLED, State.LOST, State.INTERRUPTED, State.BUSY, State.DAMAGED])
def test_trial_that_can_go_on_stays_open_and_is_first_in_the_next_command(
    start: Any, state: State, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Scripted, "ends", lambda count: state if count == 1 else State.COMPLETED)
    search = start()
    assert search.run() == [state]
    assert [trial.state.name for trial in study_of(search).trials] == ["COMPLETE", "RUNNING"]
    monkeypatch.setattr(Scripted, "ends", lambda count: State.COMPLETED)
    again = start()
    assert again.run() == []
    assert again._launcher.ran[0] == search._launcher.ran[1]
    assert len(study_of(again).trials) == 6


def test_run_that_two_trials_ask_for_is_one(start: Any) -> None:
    search = start("loss=mse,cross_entropy", "optimizer.lr=0.1", n_trials=6, sampler="random")
    search.run()
    assert len({*search._launcher.ran}) == 2
    assert len(study_of(search).trials) == 6
    assert len(search._sweep.entries()) == 2


def test_grid_has_each_combination_once_and_no_more(start: Any) -> None:
    search = start("loss=mse,cross_entropy", "optimizer.lr=0.1,0.2", "epochs=range(2,5)", n_trials=50, sampler="grid")
    assert search.run() == []
    found = [tuple(sorted(trial.params.items())) for trial in study_of(search).trials]
    assert len(found) == len({*found}) == 12


def test_cmaes_goes_on_where_it_was(start: Any) -> None:
    words = ["optimizer.lr=tag(log,interval(1e-3,1))", "optimizer.weight_decay=tag(log,interval(1e-5,1e-1))"]
    whole = start(*words, n_trials=12, sampler="cmaes")
    whole.run()
    expected = [trial.params for trial in study_of(whole).trials]
    for number in (3, 8, 12):
        parts = start(*words, n_trials=number, sampler="cmaes", study_name="parts", n_jobs=1)
        parts.run()
    assert len(study_of(parts).trials) == 12
    assert len({str(trial.params) for trial in study_of(parts).trials}) == 12
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
    assert [trial.params for trial in study_of(again).trials] == plain(6)


def test_values_that_are_not_finite_are_failures(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(searching, "values_of", lambda run, names: None)
    search = start(n_trials=2, max_failure_rate=1.0)
    assert search.run() == []
    assert [trial.state.name for trial in study_of(search).trials] == ["FAIL", "FAIL"]


def test_combination_that_cannot_be_run_is_a_failed_trial(start: Any, monkeypatch: Any) -> None:
    """The space as such was checked; this one is found when it is suggested."""
    search, checked = start(), []

    def check_some(composed: Any) -> Any:
        checked.extend(composed)
        if len(checked) == 2:
            raise ConfigError("batch_size: expected another.")
        return check_all(composed)

    check_all = searching.check_all
    monkeypatch.setattr(searching, "check_all", check_some)
    assert search.run() == []
    assert [trial.state.name for trial in study_of(search).trials] == ["COMPLETE", "FAIL", *["COMPLETE"] * 4]
    assert "trial 1  refused: batch_size: expected another." in search._launcher.lines
    again = start(n_trials=7)
    assert again.run() == []
