"""How a figure is saved: laid out once, whatever the number of its files; how axes are labelled and losses coloured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest
from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ncexp.report import style
from ncexp.report.style import COLOURS, DPI, OTHERS, group_colours, label_ticks, mode_colours, omega, save


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


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.03, 0.24), (0.05, 0.06), (0.0201, 0.0202), (1e-4, 0.25), (1e-13, 1.0), (0.9, 1.1), (2.5, 4.8), (0.1, 0.1)],
)
@pytest.mark.parametrize("inches", [0.8, 4.0])
def test_logarithmic_axis_has_two_labels_at_least_whatever_its_range(low: float, high: float, inches: float) -> None:
    figure = pyplot.figure(figsize=(2 * inches, 2 * inches))
    axes = figure.add_axes((0.3, 0.3, 0.5, 0.5))
    axes.loglog([low, high], [low, high], ".")
    for axis in (axes.xaxis, axes.yaxis):
        label_ticks(axis)
        first, last = sorted(axis.get_view_interval())
        places = axis.get_majorticklocs()
        labels = zip(places, axis.get_major_formatter().format_ticks(places), strict=True)
        shown = [text for value, text in labels if first <= value <= last and text]
        assert len(set(shown)) > 1, shown
    pyplot.close(figure)


def test_logarithmic_axis_is_read_as_numbers_where_few_decades_are_spanned() -> None:
    figure, (few, many) = pyplot.subplots(1, 2)
    few.semilogy([1, 30])
    many.semilogy([1, 1e9])
    for axes in (few, many):
        label_ticks(axes.yaxis)
    assert few.yaxis.get_major_formatter()(20) == "20"
    assert "10^" in many.yaxis.get_major_formatter()(1e6)
    label_ticks(few.yaxis, share=True)
    assert few.yaxis.get_major_formatter()(0.07) == "7 %"
    pyplot.close(figure)


def test_losses_have_their_colour_in_whatever_company() -> None:
    assert group_colours(["cross_entropy"]) == {"cross_entropy": COLOURS["cross_entropy"]}
    assert group_colours(["mse_mean", "mse_on_path", "cross_entropy", "pull"]) == {
        "mse_mean": COLOURS["mse"],
        "mse_on_path": OTHERS[0],
        "cross_entropy": COLOURS["cross_entropy"],
        "pull": OTHERS[1],
    }


def test_no_colour_has_two_meanings() -> None:
    """Apart by 15 of CIE 1976's ΔE or more, of which a reader sees about 2; the ω_j have a scale of their own."""
    named = [*COLOURS.values(), *OTHERS]
    seen = [_lab(to_rgb(colour)) for colour in named]
    scale = [_lab(colour[:3]) for colour in mode_colours(9)]
    for place, colour in enumerate(seen):
        assert min(numpy.linalg.norm(colour - other) for other in [*seen[:place], *scale]) > 15, named[place]


def _lab(colour: Sequence[float]) -> numpy.ndarray:
    """sRGB → CIE L*a*b*, white D65."""
    srgb = numpy.asarray(colour)
    linear = numpy.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = numpy.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = numpy.cbrt(to_xyz @ linear / to_xyz.sum(1))  # the line near black is left out: it moves black alone
    return numpy.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_are_written_in_one_file() -> None:
    for path in Path(style.__file__).parent.rglob("*.py"):
        if path.name not in ("style.py", "page.py"):  # the page's greys are no figure's
            assert not re.findall(r"#[0-9A-Fa-f]{6}\b|tab:|viridis|\bC\d\b\"", path.read_text()), path


def test_modes_are_told_apart_by_number_and_by_lightness_alone() -> None:
    assert omega(10) == "ω₁₀"
    assert (numpy.diff(mode_colours(9)[:, :3] @ [0.2126, 0.7152, 0.0722]) > 0.02).all()
