"""How a figure is saved: laid out once, whatever the number of its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ncexp.report.style import DPI, save


@pytest.mark.slow
def test_save_lays_out_a_figure_once_and_draws_it_once_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either takes seconds with many panels; and the files show the same arrangement."""
    laid_out: list[object] = []
    places: list[object] = []
    execute = ConstrainedLayoutEngine.execute

    def noted(engine: ConstrainedLayoutEngine, figure: object) -> None:
        laid_out.append(figure)
        execute(engine, figure)  # type: ignore[arg-type]

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", noted)
    figure, (left, right) = pyplot.subplots(1, 2, layout="constrained", figsize=(4, 3))
    before = left.get_position().bounds

    class Drawn(Artist):
        def draw(self, renderer: object) -> None:
            places.append((left.get_position().bounds, right.get_position().bounds))

    figure.add_artist(Drawn())
    left.set_ylabel("a label that takes room")
    assert save(figure, tmp_path / "a.png", tmp_path / "a.pdf") == tmp_path / "a.png"
    assert laid_out == [figure]
    assert len(places) == 2
    assert places[0] == places[1] != (before, before)
    assert pyplot.imread(tmp_path / "a.png").shape[:2] == (3 * DPI, 4 * DPI)
    assert not pyplot.fignum_exists(figure.number)  # type: ignore[attr-defined]
