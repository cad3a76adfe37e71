"""The general figures: what is drawn are the runs' numbers, whole, without a warning, of whatever is there."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy
import pytest
from drawn_figures import assert_nothing_sticks_out, assert_texts_are_whole
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from synthetic_sweep import write_run

from ncexp.record import SavedRun, State, load
from ncexp.report.study import Asked, Study, study_of
from ncexp.report.study_figures import figures_of

#: Of matplotlib and NumPy: nothing that cannot be drawn is tried.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")

EPOCHS = [1, 2, 5, 12, 100]
DECAY, BATCH, WARMUP = "optimizer.weight_decay", "batch_size", "optimizer.warmup"
ERROR, NC1 = "test/error", "train/collapse/nc1_trace"
BOTH = (ERROR, NC1)
#: Of a column and of a page of a paper, in inches.
COLUMN, PAGE = 3.3, 6.9


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    folder = tmp_path_factory.mktemp("some")
    for decay, batch, warmup, seed in product((5e-4, 5e-3, 5e-2), (32, 128), ("none", "linear"), range(2)):
        options = {DECAY: decay, BATCH: batch, WARMUP: warmup, "optimizer.lr": 0.02}
        rate = 0.02 * (1 + 50 * decay) * (1 + batch / 500)
        write_run(folder, rate=rate, seed=seed, epochs=EPOCHS, options=options)
    return list(load(folder))


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    pyplot.close("all")


def figures(study: Study, width: float | None = None, *names: str) -> dict[str, Figure]:
    return {name: draw(width) for name, _, draw in figures_of(study) if name in names or not names}


def end(run: SavedRun, name: str) -> float:
    return run.records[-1][name] * (100 if name == ERROR else 1)


def chosen(runs: list[SavedRun], **values: object) -> list[SavedRun]:
    return [run for run in runs if all(run.parameters[name] == value for name, value in values.items())]


def points_of(figure: Figure, panel: int) -> dict[float, tuple[float, float]]:
    """x → mean and standard error that are drawn, where one line has all."""
    (bar,) = figure.axes[panel].containers
    line, _, (spreads,) = bar
    ends = [segment[:, 1] for segment in spreads.get_segments()]
    rows = zip(*line.get_data(), ends, strict=True)
    return {float(x): (float(y), float(high - low) / 2) for x, y, (low, high) in rows}


def test_ends_against_a_key_are_means_and_standard_errors(runs: list[SavedRun]) -> None:
    some = [run for run in runs if run.parameters[BATCH] == 32 and run.parameters[WARMUP] == "none"]
    figure = figures(study_of(some, Asked(y=BOTH)), None, "at_the_end")["at_the_end"]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["error %, test", "NC1"]
    for panel, name in enumerate(BOTH):
        drawn = points_of(figure, panel)
        assert [*drawn] == [5e-4, 5e-3, 5e-2]
        for decay, (mean, spread) in drawn.items():
            values = [end(run, name) for run in chosen(some, **{DECAY: decay})]
            assert mean == pytest.approx(statistics.fmean(values))
            assert spread == pytest.approx(statistics.stdev(values) / math.sqrt(2))
        assert figure.axes[panel].get_xscale() == "log"
    assert [axes.get_yscale() for axes in figure.axes[:2]] == ["linear", "log"]


def test_settings_that_did_not_complete_are_crosses(runs: list[SavedRun]) -> None:
    some = [run for run in runs if run.parameters[BATCH] == 32 and run.parameters[WARMUP] == "none"]
    worst = {run.key for run in some if run.parameters[DECAY] == 5e-2 and run.seed == 1}
    lost = [replace(run, state=State.DIVERGED) if run.key in worst else run for run in some]
    figure = figures(study_of(lost, Asked(y=(NC1,))), None, "at_the_end")["at_the_end"]
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    (other,) = [run for run in chosen(some, **{DECAY: 5e-2}) if run.seed == 0]
    assert list(cross.get_xdata()) == [5e-2]
    assert list(cross.get_ydata()) == pytest.approx([end(other, NC1)])
    assert points_of(figure, 0)[5e-2][0] == pytest.approx(end(other, NC1))


def test_heat_map_has_the_mean_of_each_place(runs: list[SavedRun]) -> None:
    figure = figures(study_of(runs, Asked(y=(BATCH, ERROR))), None, "heat_maps")["heat_maps"]
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == ["warmup=linear", "warmup=none"]
    for axes, warmup in zip(figure.axes[:2], ("linear", "none"), strict=True):
        (image,) = axes.images
        grid = numpy.asarray(image.get_array())
        for row, column in numpy.ndindex(grid.shape):
            place = {WARMUP: warmup, BATCH: (32, 128)[row], DECAY: (5e-4, 5e-3, 5e-2)[column]}
            assert grid[row, column] == pytest.approx(
                statistics.fmean(end(run, ERROR) for run in chosen(runs, **place))
            )
            assert f"{grid[row, column]:.3g}" in {text.get_text() for text in axes.texts}


def test_place_of_a_heat_map_without_runs_is_empty(runs: list[SavedRun]) -> None:
    some = [run for run in runs if (run.parameters[BATCH], run.parameters[DECAY]) != (32, 5e-3)]
    grid = (
        figures(study_of(some, Asked(y=(BATCH, ERROR))), None, "heat_maps")["heat_maps"].axes[0].images[0].get_array()
    )
    assert numpy.isnan(numpy.ma.filled(grid, math.nan))[0].tolist() == [False, True, False]


def test_curves_are_the_journals_with_a_band_over_seeds(runs: list[SavedRun]) -> None:
    some = chosen(runs, **{BATCH: 32, WARMUP: "none"})
    (axes,) = figures(study_of(some, Asked(y=("train/loss",))), None, "epochs")["epochs"].axes
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(curves) == 3
    for line, decay in zip(curves, (5e-4, 5e-3, 5e-2), strict=True):
        seeds = chosen(some, **{DECAY: decay})
        common = set.intersection(*({*map(int, (record["epoch"] for record in run.records))} for run in seeds))
        rows = [[record["train/loss"] for record in run.records if record["epoch"] in common] for run in seeds]
        assert list(line.get_xdata()) == sorted(common)
        assert list(line.get_ydata()) == pytest.approx(
            [statistics.geometric_mean(at) for at in zip(*rows, strict=True)]
        )
    assert len(axes.collections) == 3


def test_scatter_is_a_point_a_run_with_the_rank_correlation(runs: list[SavedRun]) -> None:
    lost = [replace(run, state=State.DIVERGED) if place == 3 else run for place, run in enumerate(runs)]
    study = study_of(lost, Asked(by=(DECAY,), scatter=(NC1, ERROR)))
    (axes,) = figures(study, None, "scatter")["scatter"].axes
    drawn = sorted((x, y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True))
    expected = sorted((end(run, NC1), end(run, ERROR)) for place, run in enumerate(runs) if place != 3)
    assert numpy.allclose(drawn, expected)
    rho = spearmanr(*zip(*expected, strict=True)).statistic
    assert f"Spearman's ρ {rho:.2f}" in axes.get_title()
    assert "of 23 runs" in axes.get_title()


def test_color_facet_and_x_are_what_is_asked(runs: list[SavedRun]) -> None:
    study = study_of(runs, Asked(x=BATCH, color=DECAY, facet=(WARMUP,), y=(NC1,)))
    figure = figures(study, None, "at_the_end")["at_the_end"]
    assert [axes.get_title() for axes in figure.axes] == ["warmup=linear", "warmup=none"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["weight_decay=0.0005", "weight_decay=0.005", "weight_decay=0.05"]
    colours = {str(line.get_color()) for line in figure.axes[0].lines}
    assert colours == {str(line.get_color()) for line in figure.legends[0].get_lines()}
    assert figure._supxlabel.get_text() == BATCH  # type: ignore[attr-defined]


def test_zero_error_epoch_and_a_number_of_ones_own_are_drawn(runs: list[SavedRun]) -> None:
    own = [replace(run, records=[{**one, "train/mine": -one["epoch"]} for one in run.records]) for run in runs]
    found = figures(study_of(own, Asked(x=DECAY, y=("zero_error_epoch", "train/mine"))), None, "at_the_end", "epochs")
    zero = [y for axes in found["at_the_end"].axes for line in axes.lines for y in line.get_ydata()]
    assert {run.zero_error_epoch for run in own} & {*zero}
    assert any(-100 in line.get_ydata() for axes in found["epochs"].axes for line in axes.lines)
    assert "epochs" not in figures(study_of(own, Asked(y=("zero_error_epoch",))))


Change = Callable[[float, int], float]
CHANGES: dict[str, Change] = {
    "undefined": lambda value, seed: math.nan,
    "infinite": lambda value, seed: math.inf if seed else value,
    "zero": lambda value, seed: 0.0,
    "negative": lambda value, seed: -value,
    "large": lambda value, seed: 1e30 if seed else -1e30,
    "smallest": lambda value, seed: 5e-324,
    "equal but for rounding": lambda value, seed: 0.1 + 0.2 if seed else 0.3,
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "asked", [{}, {"x": DECAY, "y": BOTH}, {"scatter": (NC1, ERROR), "x": "train/loss", "y": BOTH}], ids=str
)
def test_numbers_that_no_axis_has_a_place_for(runs: list[SavedRun], change: str, asked: dict[str, object]) -> None:
    def changed(run: SavedRun) -> SavedRun:
        of = CHANGES[change]
        rows = [
            {name: value if name == "epoch" else of(value, run.seed or 0) for name, value in one.items()}
            for one in run.records
        ]
        return replace(run, records=rows)

    study = study_of([changed(run) for run in runs], Asked(**asked))  # type: ignore[arg-type]
    found = figures(study, None, "scatter", "heat_maps", "at_the_end", "epochs")
    assert "epochs" in found
    for figure in found.values():
        assert_nothing_sticks_out(figure)
        figure.draw_without_rendering()


@pytest.mark.slow
@pytest.mark.parametrize("state", [State.DIVERGED, State.QUEUED, State.RUNNING])
def test_runs_of_which_none_completed_are_drawn_as_far_as_they_are(runs: list[SavedRun], state: State) -> None:
    records = slice(None, 0) if state is State.QUEUED else slice(None, 2)
    made = [replace(run, state=state, records=run.records[records]) for run in runs]
    found = figures(study_of(made))
    assert ("heat_maps" in found) == (state is not State.QUEUED)
    for figure in found.values():
        figure.draw_without_rendering()


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, COLUMN, PAGE])
def test_no_text_is_cut_at_any_width(runs: list[SavedRun], width: float | None) -> None:
    asked = {"by": (DECAY, WARMUP), "scatter": (NC1, ERROR), "y": BOTH}
    for study in (study_of(chosen(runs, **{WARMUP: "none"})), study_of(runs, Asked(**asked))):  # type: ignore[arg-type]
        for name, figure in figures(study, width).items():
            assert width is None or figure.get_figwidth() == pytest.approx(width), name
            assert_texts_are_whole(figure)
            pyplot.close(figure)


def test_width_that_has_no_room_for_the_facets_says_what_is_needed(runs: list[SavedRun]) -> None:
    draw = next(
        draw for name, _, draw in figures_of(study_of(runs, Asked(facet=(WARMUP, DECAY), y=(NC1,)))) if name == "epochs"
    )
    with pytest.raises(ValueError, match=r"width: expected \d+\.\d inches or more for 6 panels side by side, got 3.3"):
        draw(COLUMN)


@pytest.mark.parametrize("value", ["$\\frac{$", "two\nlines", "many letters " * 9, "<b>&amp;"])
def test_values_of_keys_are_words_in_figures(tmp_path: Path, value: str) -> None:
    for one in (value, "plain"):
        write_run(tmp_path, epochs=EPOCHS, options={"dataset.folder": one, "optimizer.warmup": one})
    study = study_of(load(tmp_path), Asked(x=WARMUP, color="dataset.folder", y=(NC1,)))
    for figure in figures(study, None, "at_the_end", "epochs").values():
        assert_nothing_sticks_out(figure)
        figure.draw_without_rendering()


def test_key_that_some_runs_lack_has_a_tick_for_them(tmp_path: Path) -> None:
    for decay in (None, 1e-4, 1e-2):
        write_run(tmp_path, epochs=EPOCHS, options={DECAY: decay})
    figure = figures(study_of(load(tmp_path), Asked(y=(NC1,))), None, "at_the_end")["at_the_end"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0.0001", "0.01", "–"]
    assert sorted(place for line in figure.axes[0].lines for place in line.get_xdata()) == [0, 1, 2]


def test_captions_count_the_rows_of_a_grid_that_has_room_for_some(runs: list[SavedRun]) -> None:
    """Fifteen columns leave three rows; each figure says of how many these are, of its own rows."""
    wide = [
        replace(run, raw={**run.raw, "dataset": {**run.raw["dataset"], "name": f"data{number}"}})
        for number in range(15)
        for run in runs[:1]
    ]
    wide = [replace(run, path=run.path.with_name(f"r{place}_{place:010d}")) for place, run in enumerate(wide)]
    study = study_of(wide, Asked(x="lr", facet=("dataset",)))
    captions = {name: caption for name, caption, _ in figures_of(study)}
    drawn = {name: figure.axes for name, figure in figures(study, None, "at_the_end", "epochs").items()}
    for name, axes in drawn.items():
        (shown, every) = map(int, re.findall(r"The first (\d+) of (\d+) numbers; y= names others", captions[name])[0])
        assert (shown, len(axes)) == (3, 45), name
        assert every > 3
    named = study_of(wide, Asked(x="lr", facet=("dataset",), y=BOTH))
    assert not any("The first" in caption for _, caption, _ in figures_of(named))
