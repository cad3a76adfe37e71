"""The figures: what is drawn for which record, that its lines are the record's numbers, and that all text fits."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from test_theory import FACTS, record_of_path

from ncexp.figures import central_path_figure, draw_figures, simulation_portrait, training_portrait
from ncexp.figures.style import mode_colours, omega, plain_ticks
from ncexp.journal import Record
from ncexp.theory import Comparison, compare_with_path


@pytest.fixture(autouse=True)
def _close_all() -> object:
    yield
    pyplot.close("all")


def comparison_of(records: list[Record]) -> Comparison:
    comparison = compare_with_path(records, FACTS)
    assert comparison is not None
    return comparison


def assert_nothing_sticks_out(figure: Figure) -> None:
    figure.canvas.draw()
    bounds = figure.get_tightbbox(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    width, height = figure.get_size_inches()
    assert bounds.x0 > -0.05
    assert bounds.y0 > -0.05
    assert bounds.x1 < width + 0.05
    assert bounds.y1 < height + 0.05


def test_central_path_figure_shows_points_lines_and_residuals() -> None:
    records = record_of_path(undefined=(7,))
    records[5]["path/snr_2"] *= 1.2
    comparison = comparison_of(records)
    figure = central_path_figure(records, comparison, "digits-resnet-mse_lr0.0184202_seed0")
    top, bottom = figure.axes
    residuals = [line for line in bottom.lines if len(line.get_xdata()) > 2]
    assert all(list(line.get_xdata()) == comparison.fit.epochs.tolist() for line in residuals)  # type: ignore[union-attr]
    assert [max(line.get_ydata()) > 0.1 for line in residuals] == [False, True, False]
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    assert labels == ["ω₁ measured", "ω₂ measured", "ω₃ measured", "closed form"]
    assert_nothing_sticks_out(figure)


def test_central_path_figure_without_a_fit_says_why() -> None:
    records = record_of_path(error_free_from=99)
    figure = central_path_figure(records, comparison_of(records), "a run")
    assert "closed form not fitted: no epoch with a train error" in figure.get_suptitle()
    assert not figure.axes[1].lines
    assert_nothing_sticks_out(figure)


def with_losses(records: list[Record]) -> list[Record]:
    numbers = dict.fromkeys(
        ("path/loss_ls", "path/loss_nc1", "path/loss_nc23", "train/nc1_trace", "train/equinorm_means"), 0.1
    )
    return [record | numbers | {"train/nearest_class_center_mismatch": 0.0} for record in records]


def test_training_portrait_draws_what_the_fit_predicts() -> None:
    records = with_losses(record_of_path())
    comparison = comparison_of(records)
    figure = training_portrait(records, comparison, "digits-resnet-mse_lr0.0184202_seed0")
    spectrum, losses, _ = figure.axes
    assert comparison.predicted_losses is not None
    drawn = [list(line.get_ydata()) for line in losses.lines]
    assert comparison.predicted_losses[0].tolist() in drawn
    assert comparison.fit.predicted[:, 0].tolist() in [list(line.get_ydata()) for line in spectrum.lines]  # type: ignore[union-attr]
    assert_nothing_sticks_out(figure)


def test_simulation_portrait_leaves_out_time_zero() -> None:
    records = with_losses(record_of_path())
    for place, record in enumerate(records):
        record["path/time"] = 10.0**place if place else 0.0
        record |= {f"theory/snr_{j}": record[f"path/snr_{j}"] for j in (1, 2, 3)}
        record |= {f"theory/{name}": 0.1 for name in ("loss_ls", "loss_nc1", "loss_nc23")}
    figure = simulation_portrait(records, "central_path_seed0")
    assert all(axes.get_xscale() == "log" for axes in figure.axes)
    assert all(min(line.get_xdata()) > 0 for axes in figure.axes for line in axes.lines)
    assert_nothing_sticks_out(figure)


def test_draw_figures_draws_what_the_record_holds(tmp_path: Path) -> None:
    records = record_of_path()
    assert draw_figures(records, tmp_path / "a", "run") == []
    drawn = draw_figures(records, tmp_path / "a", "run", comparison_of(records))
    assert [path.name for path in drawn] == ["central_path.png", "path_portrait.png"]
    nothing = record_of_path(undefined=tuple(range(1, 11)))
    assert draw_figures(nothing, tmp_path / "b", "run", comparison_of(nothing)) == []


def test_style_numbers_and_colours_tell_modes_apart() -> None:
    assert omega(10) == "ω₁₀"
    colours = mode_colours(9)[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (numpy.diff(colours) > 0.02).all()  # by lightness alone, as in grey


def test_plain_ticks_only_where_few_decades_are_spanned() -> None:
    _, (few, many) = pyplot.subplots(1, 2)
    few.semilogy([1, 30])
    many.semilogy([1, 1e9])
    for axes in (few, many):
        plain_ticks(axes)
    assert few.yaxis.get_major_formatter()(20) == "20"
    assert "10^" in many.yaxis.get_major_formatter()(1e6)
