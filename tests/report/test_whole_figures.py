"""All figures together: no text is cut at any size, one colour has one meaning, shares are in percent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawn_figures import assert_texts_are_whole
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from synthetic_sweep import write_run

from ncexp.record import find_runs, read_run
from ncexp.record.quantities import FREE_BIAS, NC0, SELI, panels
from ncexp.report.figures import decomposition_figure, neural_collapse_figure
from ncexp.report.grids import figures_of
from ncexp.report.han2022 import Sweep, gather

EPOCHS = [1, 2, 5, 12, 35, 101, 206, 350]
#: Of a column and of a page of a paper, in inches.
COLUMN, PAGE = 3.3, 6.9


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    pyplot.close("all")


def sweep_of(
    folder: Path, *datasets: str, architecture: str = "resnet", rates: tuple[float, ...] = (0.03, 0.24)
) -> Sweep:
    for dataset in datasets:
        for loss in ("mse_mean", "cross_entropy"):
            for rate in rates:
                write_run(folder, dataset, architecture, loss, rate, epochs=EPOCHS, more=True)
    return gather([read_run(path) for path in find_runs([folder])])


def grids(sweep: Sweep, width: float | None = None) -> Iterator[tuple[str, Figure]]:
    for name, _, draw in figures_of(sweep):
        yield name, draw(width)


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, COLUMN, PAGE])
def test_no_text_of_a_report_is_cut(tmp_path: Path, width: float | None) -> None:
    small = sweep_of(tmp_path / "small", "digits")
    long = sweep_of(tmp_path / "long", "my_package.and_its_own_data", architecture="a-network-with_a_long.name" * 2)
    for sweep in (small, long):
        for name, figure in grids(sweep, width):
            if width is not None:
                assert figure.get_figwidth() == pytest.approx(width), name
            assert_texts_are_whole(figure)
            pyplot.close(figure)


@pytest.mark.slow
def test_more_panels_than_a_column_has_room_for_are_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "mnist", "cifar10", "svhn", "stl10", rates=(0.02,))
    draw = next(draw for name, _, draw in figures_of(sweep) if name.startswith("nc1"))
    with pytest.raises(ValueError, match=r"width: expected \d\.\d inches or more for 4 panels side by side, got 3.3"):
        draw(COLUMN)


@pytest.mark.slow
def test_one_colour_has_one_meaning_on_all_figures(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "digits")
    means: dict[str, set[str]] = {}
    for _, figure in grids(sweep):
        for handle in figure.legends[0].legend_handles:
            assert isinstance(handle, Line2D)
            label = str(handle.get_label())
            colour = to_hex(handle.get_color())
            if colour not in ("#808080", to_hex("0.3")):  # what is compared, whatever its colour
                means.setdefault(colour, set()).add("zero error" if "zero error" in label else label)
    for run in sweep.runs:
        for axes in neural_collapse_figure(run).axes:
            for line in axes.lines:
                meaning = "zero error" if list(line.get_xdata()) == [run.zero_error_epoch] * 2 else run.cell[2]
                means.setdefault(to_hex(line.get_color()), set()).add(meaning)
        for line in decomposition_figure(run).axes[0].lines:
            label = str(line.get_label())
            means.setdefault(to_hex(line.get_color()), set()).add("zero error" if label.startswith("_") else label)
        pyplot.close("all")
    assert {colour: found for colour, found in means.items() if len(found) > 1} == {}
    meant = sorted(meaning for found in means.values() for meaning in found)
    assert len(set(meant)) == len(meant)  # and one meaning has one colour
    assert {"mse_mean", "cross_entropy", "L", "L_NC1", "L_NC2/3", "L_LS⊥", "zero error", "ω₁"} <= set(meant)


@pytest.mark.slow
def test_shares_are_in_percent_on_every_figure(tmp_path: Path) -> None:
    found = dict(grids(sweep_of(tmp_path, "digits")))
    for name in ("learning_rates", "error", "nc4_nearest_class_center", "distance_to_the_central_path", "path_fit"):
        axes = found[name].axes[0]
        labels = axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks())
        assert all(label.endswith(" %") for label in labels), (name, labels)


NEW = (NC0, SELI, FREE_BIAS)
GRIDS = {"nc0_rows_that_sum_to_zero", "seli_means_of_unequal_classes", "free_bias_means_of_unequal_classes"}


def sweep_with(outputs: Path, *recorded: str) -> Sweep:
    """Two losses; with these train quantities beside the usual ones, each falling by half from row to row."""
    paths = [write_run(outputs, loss=loss) for loss in ("mse", "cross_entropy")]
    for path in paths:
        journal = next((path / "measurements").glob("collapse_*.jsonl"))
        rows = [json.loads(line) for line in journal.read_text().splitlines()]
        added = [row | {f"train/{name}": 0.5**place for name in recorded} for place, row in enumerate(rows)]
        journal.write_text("".join(f"{json.dumps(row)}\n" for row in added))
    return gather([read_run(path) for path in paths])


def test_grids_are_drawn_where_their_numbers_were_recorded(tmp_path: Path) -> None:
    names = [row.name for panel in NEW for row in panels()[panel]]
    assert len(names) == 5
    with_them = {name for name, _, _ in figures_of(sweep_with(tmp_path / "with", *names))}
    without = {name for name, _, _ in figures_of(sweep_with(tmp_path / "without"))}
    assert with_them - without == GRIDS
