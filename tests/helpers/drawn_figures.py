"""What several tests of figures check."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot
from matplotlib.figure import Figure

from ncexp.measure import Comparison, compare_with_path
from ncexp.record import SavedRun
from ncexp.report.style import lay_out


def comparison_of(run: SavedRun) -> Comparison:
    """The closed form laid along a run that has enough epochs for it."""
    comparison = compare_with_path(run)
    assert comparison is not None
    return comparison


def draw_alone(figure: Figure, path: Path, *others: Path) -> Path:
    """In place of `ncexp.report.style.save`: all that drawing may refuse, without the files, which take longer."""
    figure.draw_without_rendering()
    pyplot.close(figure)
    return path


def assert_nothing_sticks_out(figure: Figure) -> None:
    """All that is drawn lies within the figure, laid out as its files are, to 0.05 inches."""
    lay_out(figure)
    bounds = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(bounds.x0, bounds.y0, width - bounds.x1, height - bounds.y1) > -0.05
