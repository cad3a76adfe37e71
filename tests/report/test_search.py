"""What a search came to, in tables, words and a figure."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markupsafe import escape
from scripted_search import WORDS, plain, scripted_search, value
from synthetic_sweep import write_run

from ncexp.launching import search as searching
from ncexp.record import DamagedFile, read_run
from ncexp.report.search import history, importances, read_search, search_of, trials
from ncexp.report.study import study_of
from ncexp.report.whole import write_report


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return scripted_search(tmp_path, monkeypatch)


def test_several_objectives_have_a_pareto_front(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(searching, "values_of", lambda run, names: [value(run), -value(run)])
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
    best = max(plain(12), key=lambda one: one["optimizer.lr"])
    assert found.best[0].params == best
    command = f"optimizer.lr={best['optimizer.lr']} loss={best['loss']}"
    assert found.words()[1].startswith("command   ncexp dataset=gaussian_mixture ")
    assert found.words()[1].endswith(command)
    mattered = importances(found)
    assert mattered is not None
    assert mattered.rows[0][0] == "optimizer.lr"
    assert sum(int(str(row[1])) for row in mattered.rows) in (99, 100, 101)


def test_history_has_every_value_and_the_best_so_far(start: Any) -> None:
    search = start(n_trials=8)
    search.run()
    values = [trial.value for trial in read_search(search._sweep.path).trials]
    (axes,) = history(read_search(search._sweep.path)).axes
    points, best = axes.lines
    assert [*points.get_ydata()] == values
    assert [*best.get_ydata()] == [min(values[: count + 1]) for count in range(8)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("trial", "test/error")


def test_search_is_found_by_the_runs_that_it_asked_for(start: Any, tmp_path: Path) -> None:
    search = start()
    search.run()
    runs = [SimpleNamespace(path=tmp_path / one.task.directory.name, key=one.task.key) for one in search._asked]
    found = search_of(runs)
    assert found is not None
    assert [trial.params for trial in found.trials] == plain(6)
    assert search_of([*runs, SimpleNamespace(path=tmp_path / "other_0123456789", key="0123456789")]) is None
    assert search_of([]) is None


def test_search_with_cmaes_is_read_without_its_pickles(start: Any, monkeypatch: Any) -> None:
    words = ["optimizer.lr=tag(log,interval(1e-3,1))", "optimizer.weight_decay=tag(log,interval(1e-5,1e-1))"]
    search = start(*words, n_trials=12, sampler="cmaes")
    search.run()

    def refuse(data: bytes) -> Any:
        raise AssertionError

    monkeypatch.setattr(pickle, "loads", refuse)
    assert len(trials(read_search(search._sweep.path)).rows) == 12
    with pytest.raises(AssertionError):  # going on does, as docs/security.md says
        start(*words, n_trials=14, sampler="cmaes").run()


@pytest.mark.usefixtures("no_rendering")
def test_report_of_a_search_has_its_trials_and_the_best_command(start: Any, tmp_path: Path, monkeypatch: Any) -> None:
    search = start()
    search.run()
    found = read_search(search._sweep.path)
    runs = [read_run(write_run(tmp_path / "outputs", rate=rate)) for rate in (0.02, 0.05)]
    monkeypatch.setattr("ncexp.report.search.search_of", lambda listed: found)
    page, tables = write_report(study_of(runs), tmp_path / "report")
    assert [table.name for table in tables][-2:] == ["trials", "importances"]
    assert len((tmp_path / "report" / "trials.csv").read_text().splitlines()) == 7
    assert escape(" ".join(found.words()[1].split())) in page.read_text()
    assert "what each trial came to" in page.read_text()


@pytest.mark.usefixtures("no_rendering")
def test_report_says_why_a_search_cannot_be_read(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(listed: Any) -> None:
        raise DamagedFile("study.journal: expected a journal of Optuna, got a damaged file. Set it aside.")

    runs = [read_run(write_run(tmp_path / "outputs", rate=rate)) for rate in (0.02, 0.05)]
    monkeypatch.setattr("ncexp.report.search.search_of", refuse)
    page, tables = write_report(study_of(runs), tmp_path / "report")
    assert "search: study.journal: expected a journal of Optuna" in page.read_text()
    assert "trials" not in [table.name for table in tables]
