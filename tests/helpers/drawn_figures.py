"""What several tests of figures check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import pyplot
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

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


def assert_texts_are_whole(figure: Figure) -> None:
    """Every text that is drawn lies within the canvas, laid out as its files are, to a pixel."""
    lay_out(figure)
    with _drawn_texts() as drawn:
        figure.draw_without_rendering()
    width, height = figure.bbox.size
    assert drawn
    for text in drawn:
        box = text.get_window_extent()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -1, text.get_text()


@contextmanager
def _drawn_texts() -> Iterator[list[Text]]:
    drawn: list[Text] = []
    draw = Text.draw

    def noted(text: Text, renderer: RendererBase, *rest: object, **named: object) -> None:
        if text.get_visible() and text.get_text():
            drawn.append(text)
        draw(text, renderer, *rest, **named)

    Text.draw = noted  # type: ignore[assignment, method-assign]
    try:
        yield drawn
    finally:
        Text.draw = draw  # type: ignore[method-assign]
