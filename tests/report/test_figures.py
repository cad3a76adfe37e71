"""The figures: what is drawn for which record, that its lines are the record's numbers, and that all text fits."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from drawn_figures import assert_nothing_sticks_out, comparison_of
from matplotlib import pyplot
from synthetic_path import NAME, records_of_path, run_with
from synthetic_sweep import write_run

from ncexp.measure.quantities import find
from ncexp.record import Record, read_run
from ncexp.report.figures import (
    central_path_figure,
    decomposition_figure,
    draw_figures,
    neural_collapse_figure,
    simulation_portrait,
    training_portrait,
)
from ncexp.report.style import mode_colours, omega


@pytest.fixture(autouse=True)
def _close_all() -> object:
    yield
    pyplot.close("all")


def test_central_path_figure_shows_points_lines_and_residuals() -> None:
    records = records_of_path(undefined=(7,))
    records[5]["train/path/snr_2"] *= 1.2
    run = run_with(records)
    comparison = comparison_of(run)
    figure = central_path_figure(run, comparison)
    assert NAME in figure.get_suptitle()
    top, bottom = figure.axes
    residuals = [line for line in bottom.lines if len(line.get_xdata()) > 2]
    assert all(list(line.get_xdata()) == comparison.fit.epochs.tolist() for line in residuals)  # type: ignore[union-attr]
    assert [max(line.get_ydata()) > 0.1 for line in residuals] == [False, True, False]
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    assert labels == ["ω₁", "ω₂", "ω₃", "measured", "closed form"]
    assert_nothing_sticks_out(figure)


def test_central_path_figure_without_a_fit_says_why() -> None:
    run = run_with(records_of_path(error_free_from=99))
    figure = central_path_figure(run, comparison_of(run))
    assert "closed form not fitted: no epoch with a train error" in figure.get_suptitle()
    assert not figure.axes[1].lines
    assert_nothing_sticks_out(figure)


def with_losses(records: list[Record]) -> list[Record]:
    losses = ("train/path/loss_ls", "train/path/loss_nc1", "train/path/loss_nc23")
    numbers = dict.fromkeys((*losses, "train/collapse/nc1_trace", "train/collapse/equinorm_means"), 0.1)
    return [record | numbers | {"train/collapse/nearest_class_center_mismatch": 0.0} for record in records]


@pytest.mark.slow
def test_training_portrait_draws_what_the_fit_predicts() -> None:
    run = run_with(with_losses(records_of_path()))
    comparison = comparison_of(run)
    figure = training_portrait(run, comparison)
    spectrum, losses, _ = figure.axes
    assert comparison.predicted_losses is not None
    drawn = [list(line.get_ydata()) for line in losses.lines]
    assert comparison.predicted_losses[0].tolist() in drawn
    assert comparison.fit.predicted[:, 0].tolist() in [list(line.get_ydata()) for line in spectrum.lines]  # type: ignore[union-attr]
    assert_nothing_sticks_out(figure)


@pytest.mark.slow
def test_simulation_portrait_leaves_out_time_zero() -> None:
    records = with_losses(records_of_path())
    for place, record in enumerate(records):
        record["train/path/time"] = 10.0**place if place else 0.0
        record |= {f"train/theory/snr_{j}": record[f"train/path/snr_{j}"] for j in (1, 2, 3)}
        record |= {f"train/theory/{name}": 0.1 for name in ("loss_ls", "loss_nc1", "loss_nc23")}
    figure = simulation_portrait(run_with(records))
    assert all(axes.get_xscale() == "log" for axes in figure.axes)
    assert all(min(line.get_xdata()) > 0 for axes in figure.axes for line in axes.lines)
    assert_nothing_sticks_out(figure)


@pytest.mark.slow
def test_neural_collapse_figure_draws_the_record_under_the_labels_of_the_catalogue(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    figure = neural_collapse_figure(run)
    first, norms, *_ = figure.axes
    row = find("train/collapse/nc1_trace")
    assert row is not None
    assert first.get_ylabel() == row.symbol
    assert first.get_yscale() == "log"
    for line, split in zip(first.lines, ("train", "test"), strict=False):
        assert list(line.get_ydata()) == [record[f"{split}/collapse/nc1_trace"] for record in run.records]
    labels = [text.get_text() for text in norms.get_legend().get_texts()]
    assert labels == ["class means, train", "class means, test", "classifier"]
    assert_nothing_sticks_out(figure)


@pytest.mark.slow
def test_figures_draw_the_zero_error_epoch_in_red(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    for figure in (neural_collapse_figure(run), decomposition_figure(run)):
        for axes in figure.axes:
            assert list(axes.lines[-1].get_xdata()) == [run.zero_error_epoch] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_draw_figures_draws_what_the_record_holds(tmp_path: Path) -> None:
    run = run_with(records_of_path())
    assert draw_figures(run, tmp_path / "a") == []
    drawn = draw_figures(run, tmp_path / "a", comparison_of(run))
    assert [path.name for path in drawn] == ["central_path.png", "path_portrait.png"]
    nothing = run_with(records_of_path(undefined=tuple(range(1, 11))))
    assert draw_figures(nothing, tmp_path / "b", comparison_of(nothing)) == []
    drawn = draw_figures(read_run(write_run(tmp_path)), tmp_path / "c")
    assert [path.name for path in drawn] == ["neural_collapse.png", "mse_decomposition.png"]


def test_style_numbers_and_colours_distinguish_modes() -> None:
    assert omega(10) == "ω₁₀"
    colours = mode_colours(9)[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (numpy.diff(colours) > 0.02).all()  # by lightness alone, as in grey
