"""The figures of a run: what is drawn for which record, that lines are its numbers, what is said; and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_figures import assert_nothing_sticks_out, assert_texts_are_whole, comparison_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from synthetic_path import NAME, records_of_path, run_with
from synthetic_sweep import write_run

from ncexp.record import Record, SavedRun, read_run
from ncexp.record.quantities import find
from ncexp.report.figures import (
    central_path_figure,
    decomposition_figure,
    draw_figures,
    neural_collapse_figure,
    simulation_portrait,
    training_portrait,
)
from ncexp.report.grids import decomposition_grid
from ncexp.report.han2022 import gather
from ncexp.report.style import RED, save

#: Of a column and of a page of a paper, in inches.
COLUMN, PAGE = 3.3, 6.9


@pytest.fixture(autouse=True)
def _close_all() -> object:
    yield
    pyplot.close("all")


def with_losses(records: list[Record]) -> list[Record]:
    losses = ("train/path/loss_ls", "train/path/loss_nc1", "train/path/loss_nc23")
    numbers = dict.fromkeys((*losses, "train/collapse/nc1_trace", "train/collapse/equinorm_means"), 0.1)
    return [record | numbers | {"train/collapse/nearest_class_center_mismatch": 0.0} for record in records]


def figures(folder: Path) -> list[tuple[SavedRun, Figure]]:
    """The four figures of a run, with the run that each is of."""
    whole, path = read_run(write_run(folder)), run_with(with_losses(records_of_path()))
    return [
        (whole, neural_collapse_figure(whole)),
        (whole, decomposition_figure(whole)),
        (path, central_path_figure(path, comparison_of(path))),
        (path, training_portrait(path, comparison_of(path))),
    ]


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


@pytest.mark.slow
def test_training_portrait_draws_what_the_fit_predicts() -> None:
    run = run_with(with_losses(records_of_path()))
    comparison = comparison_of(run)
    spectrum, losses, _ = training_portrait(run, comparison).axes
    assert comparison.predicted_losses is not None
    drawn = [list(line.get_ydata()) for line in losses.lines]
    assert comparison.predicted_losses[0].tolist() in drawn
    assert comparison.fit.predicted[:, 0].tolist() in [list(line.get_ydata()) for line in spectrum.lines]  # type: ignore[union-attr]


@pytest.mark.slow
def test_simulation_portrait_leaves_out_time_zero() -> None:
    records = with_losses(records_of_path())
    for place, record in enumerate(records):
        record["train/path/time"] = 10.0**place if place else 0.0
        record |= {f"train/theory/snr_{j}": record[f"train/path/snr_{j}"] for j in (1, 2, 3)}
        record |= {f"train/theory/{name}": 0.1 for name in ("loss_ls", "loss_nc1", "loss_nc23")}
    figure = simulation_portrait(run_with(records))
    assert all(axes.get_xscale() == "log" for axes in figure.axes)
    assert all(min(line.get_xdata(), default=1) > 0 for axes in figure.axes for line in axes.lines)
    assert_nothing_sticks_out(figure)


@pytest.mark.slow
def test_neural_collapse_figure_draws_the_record_under_catalogue_labels(tmp_path: Path) -> None:
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


def words(figure: Figure) -> str:
    return "\n".join([figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)])


@pytest.mark.slow
def test_every_figure_draws_its_red_line_and_says_what_it_is(tmp_path: Path) -> None:
    for run, figure in figures(tmp_path):
        assert f"red line: first epoch with train error ≤ 0.1 %, {run.zero_error_epoch}" in words(figure)
        for axes in figure.axes:
            (red,) = [line for line in axes.lines if str(line.get_color()) == RED]
            assert list(red.get_xdata()) == [run.zero_error_epoch] * 2
        assert_nothing_sticks_out(figure)


def test_figure_without_a_red_line_says_so(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, epochs=[1, 2]))
    for figure in (neural_collapse_figure(run), decomposition_figure(run)):
        assert "train error never ≤ 0.1 %: no red line" in words(figure)
        assert not any(str(line.get_color()) == RED for axes in figure.axes for line in axes.lines)


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({"ridge_weight": 0.0, "ridge_bias": 0.0}, "½ Ave ‖W̃h̃ − y‖², λ = 0"),
        ({"ridge_weight": 5e-4, "ridge_bias": 0.0}, "½ Ave ‖W̃h̃ − y‖² + λ/2 ‖W̃‖²"),
        ({}, "½ Ave ‖W̃h̃ − y‖² + λ/2 ‖W̃‖²"),  # not known
    ],
)
def test_decomposition_shows_the_decay_only_where_there_is_one(
    facts: dict[str, float], label: str, tmp_path: Path
) -> None:
    run = read_run(write_run(tmp_path))
    for name in ("ridge_weight", "ridge_bias"):
        run.facts.pop(name, None)
    run.facts.update(facts)
    assert decomposition_figure(run).axes[0].get_ylabel() == label
    beside = decomposition_grid(gather([run]), run.cell[2]).get_supylabel()
    assert beside.replace("\n", " ") == f"{label}, trained with {run.cell[2]}"


@pytest.mark.slow
def test_no_text_of_a_runs_figures_is_cut(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, "a_dataset_with_a_name_that_is_long"))
    path = run_with(with_losses(records_of_path()))
    comparison = comparison_of(path)
    for width in (None, COLUMN, PAGE):
        drawn = [decomposition_figure(run), central_path_figure(path, comparison)]
        if width != COLUMN:  # of panels side by side each is drawn by `ncexp report RUN --width 3.3`
            drawn += [neural_collapse_figure(run), training_portrait(path, comparison)]
        for figure in drawn:
            if width is not None:
                figure.set_size_inches(width, width * 1.3)  # of the tallest, two panels one above the other
            assert_texts_are_whole(figure)


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


@pytest.mark.slow
def test_every_figure_lies_there_as_png_and_as_the_same_pdf_each_time(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    assert [path.suffix for path in draw_figures(run, tmp_path / "figures")] == [".png"] * 2
    first = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    kinds = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    names = {
        f"{name}{suffix}": kind for name in ("mse_decomposition", "neural_collapse") for suffix, kind in kinds.items()
    }
    assert {name: content[:4] for name, content in first.items()} == names
    again = [tmp_path / f"mse_decomposition{suffix}" for suffix in kinds]
    save(decomposition_figure(run), *again)
    assert [path.read_bytes() for path in again] == [first[path.name] for path in again]
