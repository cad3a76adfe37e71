"""A report of what is not done, did not work, or was hardly measured shows what is there, and says what is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from commands import report
from drawn_figures import draw_alone
from matplotlib import pyplot
from synthetic_sweep import EPOCHS, write_run, write_status

from ncexp.measure import compare_with_path
from ncexp.record import Record, SavedRun, State, find_runs, read_run
from ncexp.record.quantities import ERROR, NC1, panels
from ncexp.report.curves import bands_of
from ncexp.report.figures import draw_figures
from ncexp.report.grids import _compared, panel_grid, rates_grid, regimes_grid
from ncexp.report.han2022 import decomposition, differences, gains, gather, learning_rates, results
from ncexp.report.page import render_page
from ncexp.report.study import PRESETS, Asked, Preset, study_of
from ncexp.report.tables import troubles
from ncexp.report.verdict import outcome
from ncexp.report.whole import describe, draw_all, made_tables

Change = Callable[[SavedRun, list[Record]], tuple[State, list[Record]]]


def unevaluated(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    return State.QUEUED, []


def running(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    return State.RUNNING, records[: 5 + 2 * (run.seed or 0)]


def diverged(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    return State.DIVERGED, records[:4]


def one_epoch(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    return State.COMPLETED, records[:1]


def other_epochs(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    """No epoch in common."""
    return State.COMPLETED, records[run.seed or 0 :: 2]


def empty_analysis(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    """Loss and error alone were measured."""
    names = ("epoch", "train/loss", "train/error", "test/loss", "test/error")
    return State.COMPLETED, [{name: record[name] for name in names} for record in records]


def nothing_defined(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    return State.COMPLETED, [{**dict.fromkeys(one, math.nan), "epoch": one["epoch"]} for one in records]


def all_zero(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
    """What no logarithmic axis has a place for."""
    return State.COMPLETED, [{**dict.fromkeys(one, 0.0), "epoch": one["epoch"]} for one in records]


CHANGES = (unevaluated, running, diverged, one_epoch, other_epochs, empty_analysis, nothing_defined, all_zero)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    """Two losses, two rates, two seeds, with robustness and spectra."""
    folder = tmp_path_factory.mktemp("whole")
    for loss in ("mse", "cross_entropy"):
        for rate in (0.02, 0.05):
            for seed in (0, 1):
                write_run(folder, loss=loss, rate=rate, seed=seed, more=True)
    return [read_run(path) for path in find_runs([folder])]


def changed(runs: list[SavedRun], change: Change) -> list[SavedRun]:
    """The runs with another state and other records."""
    made = []
    for run in runs:
        state, records = change(run, run.records)
        last = max((record["epoch"] for record in records), default=0)
        training = [{**one, "fit/error": 0.5} for one in run.training if one["epoch"] <= last]
        made.append(replace(run, state=state, message="", records=records, training=training))
    return made


@pytest.fixture(autouse=True)
def _close_all() -> object:
    yield
    pyplot.close("all")


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_table_is_made_of_whatever_is_there(
    whole: list[SavedRun], change: Change, preset: Preset | None, tmp_path: Path
) -> None:
    study = study_of(changed(whole, change))
    tables = made_tables(study, preset)
    assert all(table.markdown() and table.csv() and table.latex() for table in tables)
    assert len(tables[0].rows) == (2 if preset else 4)
    assert render_page(study, describe(study, preset), outcome(study), tables, [], tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_figure_is_drawn_of_whatever_is_there(
    whole: list[SavedRun], change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("style", "figures"):
        monkeypatch.setattr(f"ncexp.report.{place}.save", draw_alone)
    runs = changed([run for run in whole if run.rate == 0.02], change)
    drawn = draw_all(study_of(runs), tmp_path, "han2022")
    assert ("learning_rates" in {png.stem for _, png in drawn}) == (change is not nothing_defined)
    for asked in (Asked(), Asked(x="lr", scatter=("lr", "zero_error_epoch"), best="none")):
        drawn = draw_all(study_of(changed(whole, change), asked), tmp_path)
        assert ("epochs" in {png.stem for _, png in drawn}) == (change is not unevaluated)
    regimes = [replace(run, raw={**run.raw, "regime": "on_path" if run.seed else "plain"}) for run in runs]
    sweep = gather(regimes)
    figure = regimes_grid(sweep, {place: _compared(cell) for place, cell in sweep.cells.items()})
    assert [axes.get_title().partition("\n")[0] for axes in figure.axes] == sweep.losses
    assert sorted(sweep.losses) == ["cross_entropy", "cross_entropy_on_path", "mse", "mse_on_path"]
    draw_alone(figure, tmp_path)
    if runs[0].records:
        draw_figures(runs[0], tmp_path / "figures", compare_with_path(runs[0]))


def test_cell_without_a_complete_rate_shows_the_one_that_leads_and_says_so(whole: list[SavedRun]) -> None:
    sweep = gather(changed(whole, running))
    for row, (place, cell) in zip(results(sweep).rows, sweep.cells.items(), strict=True):
        errors = {
            rate: sum(run.records[-1]["test/error"] for run in group.runs) / len(group.runs)
            for rate, group in cell.rates.items()
        }
        best = min(errors, key=lambda rate: errors[rate])
        assert cell.best_rate is None
        assert row[:5] == [*place, f"{best:g} (running, at epoch {EPOCHS[4]} to {EPOCHS[6]})", "2"]
        entries = learning_rates(sweep).rows[[*sweep.cells].index(place)][3:]
        assert entries == [f"[{100 * errors[rate]:.2f}] (running)" if rate == best else "running" for rate in errors]
    assert "Where no rate is complete, the one that leads so far is shown" in describe(study_of(sweep.runs), "han2022")
    assert differences(sweep).rows == decomposition(sweep).rows == []
    assert [row[1] for row in gains(sweep).rows] == ["0 of 1", "0 of 1"]
    assert [row[2] for row in troubles(sweep.runs).rows] == ["running"] * 8


def test_rate_of_a_diverged_run_leads_only_where_there_is_no_other(whole: list[SavedRun]) -> None:
    def one_diverges(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
        return (
            diverged(run, [{**one, "test/error": 0.0} for one in records])
            if run.rate == 0.02
            else running(run, records)
        )

    assert [cell.shown_rate for cell in gather(changed(whole, one_diverges)).cells.values()] == [0.05, 0.05]
    sweep = gather(changed(whole, diverged))
    assert all("(diverged, at epoch 5)" in str(row[3]) for row in results(sweep).rows)
    assert [cell.shown_rate for cell in gather(changed(whole, unevaluated)).cells.values()] == [None, None]


def test_seeds_not_done_or_of_other_epochs_are_drawn_each_by_itself(whole: list[SavedRun]) -> None:
    for change in (running, other_epochs):
        sweep = gather(changed(whole, change))
        axes = panel_grid(sweep, panels()[NC1]).axes[0]
        for cell in sweep.cells.values():
            for run in cell.kept:
                values = [record["train/collapse/nc1_trace"] for record in run.records]
                assert any(len(line.get_ydata()) == len(values) and list(line.get_ydata()) == pytest.approx(values)
                           for line in axes.lines)  # fmt: skip
        assert not axes.collections


def test_single_epoch_is_a_point_that_is_seen(whole: list[SavedRun]) -> None:
    axes = panel_grid(gather(changed(whole, one_epoch)), panels()[ERROR]).axes[0]
    assert {line.get_marker() for line in axes.lines if len(line.get_ydata()) == 1} == {"."}


def test_rates_without_any_error_are_drawn_on_an_axis_that_has_zero(whole: list[SavedRun]) -> None:
    def no_error(run: SavedRun, records: list[Record]) -> tuple[State, list[Record]]:
        return State.COMPLETED, [{**one, "test/error": 0.0 if run.rate == 0.02 else 0.1} for one in records]

    figure = rates_grid(gather(changed(whole, no_error)))
    assert figure.axes[0].get_yscale() == "linear"


def test_rates_that_are_not_done_are_drawn_at_their_error_so_far(whole: list[SavedRun]) -> None:
    for change, drawn in ((running, 2), (diverged, 0), (unevaluated, 0)):
        sweep = gather(changed(whole, change))
        axes = rates_grid(sweep).axes[0]
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        inside = [line for line in crosses if line.get_transform() == axes.transData]
        assert [len(line.get_ydata()) for line in inside] == [drawn, drawn]
        assert len(crosses) - len(inside) == 2 * (2 - drawn)
        assert bool(len(axes.get_yticks())) == bool(drawn)


def test_mean_of_seeds_is_nowhere_one_over_fewer(whole: list[SavedRun]) -> None:
    epochs = numpy.arange(1, 9)
    seeds = [(epochs, numpy.full(8, 1.0 + seed)) for seed in range(2)]
    seeds[1][1][3] = math.nan
    (band,) = bands_of(seeds, logarithmic=False)
    assert band.mean.tolist()[:3] == [1.5, 1.5, 1.5]
    assert math.isnan(band.mean[3])
    many = (epochs, numpy.where(epochs < 6, math.nan, 2.0))
    assert len(bands_of([seeds[0], many], logarithmic=False)) == 2


@pytest.mark.usefixtures("no_rendering")
def test_report_after_five_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing has completed: of two runs one has numbers, and one was killed before its first checkpoint."""
    begun, new = (write_run(tmp_path / "outputs", rate=rate) for rate in (0.02, 0.05))
    for path in (begun, new):
        write_status(path, State.RUNNING)
    (begun / "origin.json").write_text('{"loop": "covers all that is on record"}')
    command = [str(tmp_path / "outputs"), "--to", str(tmp_path / "report")]
    assert report([*command, "preset=han2022"]) == 0
    assert "| 0.02 (killed, at epoch 350) | 1 |" in capsys.readouterr().out
    assert report(command) == 0
    said = capsys.readouterr().out
    assert "0.02      0             –    –  1 killed" in said
    assert "0.05      0             –    –  1 killed" in said
