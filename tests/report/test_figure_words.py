"""What the figures of a run say: the red line in each, the loss's axis with and without decay; and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_figures import assert_nothing_sticks_out, comparison_of
from matplotlib import pyplot
from matplotlib.figure import Figure
from synthetic_path import records_of_path, run_with
from synthetic_sweep import write_run

from ncexp.record import SavedRun, read_run
from ncexp.report.figures import (
    central_path_figure,
    decomposition_figure,
    draw_figures,
    neural_collapse_figure,
    training_portrait,
)
from ncexp.report.grids import decomposition_grid
from ncexp.report.style import RED, save
from ncexp.report.sweep import gather


@pytest.fixture(autouse=True)
def _close_all() -> object:
    yield
    pyplot.close("all")


LOSSES = ("train/path/loss_ls", "train/path/loss_nc1", "train/path/loss_nc23", "train/collapse/nc1_trace")


def figures(folder: Path) -> list[tuple[SavedRun, Figure]]:
    """The four figures of a run, with the run that each is of."""
    whole, path = (
        read_run(write_run(folder)),
        run_with([record | dict.fromkeys(LOSSES, 0.1) for record in records_of_path()]),
    )
    return [
        (whole, neural_collapse_figure(whole)),
        (whole, decomposition_figure(whole)),
        (path, central_path_figure(path, comparison_of(path))),
        (path, training_portrait(path, comparison_of(path))),
    ]


def words(figure: Figure) -> str:
    return "\n".join([figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)])


@pytest.mark.slow
def test_every_figure_says_what_its_red_line_is(tmp_path: Path) -> None:
    for run, figure in figures(tmp_path):
        assert f"red line: first epoch with train error ≤ 0.1 %, {run.zero_error_epoch}" in words(figure)
        assert all(any(str(line.get_color()) == RED for line in axes.lines) for axes in figure.axes)
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
def test_every_figure_lies_there_as_png_and_as_the_same_pdf_each_time(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    drawn = draw_figures(run, tmp_path / "figures")
    assert [path.suffix for path in drawn] == [".png"] * 2
    first = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert {name: content[:4] for name, content in first.items()} == {
        "mse_decomposition.png": b"\x89PNG",
        "neural_collapse.png": b"\x89PNG",
        "mse_decomposition.pdf": b"%PDF",
        "neural_collapse.pdf": b"%PDF",
    }
    names = [f"mse_decomposition{suffix}" for suffix in (".png", ".pdf")]
    save(decomposition_figure(run), *(tmp_path / name for name in names))
    assert [(tmp_path / name).read_bytes() for name in names] == [first[name] for name in names]
