"""Heat maps of a study: a number at the end over two keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from ncexp.report.columns import Column, tick
from ncexp.report.panels import Panel, draw_panels, wrapped
from ncexp.report.study import Setting, Study, by_values, over_seeds
from ncexp.report.style import SCALE, label_ticks

#: Numbers written into a panel; ticks of an axis.
MOST_WRITTEN, MOST_TICKS = 40, 5
#: Below this share of the colours a number is written in white.
DARK = 0.6


def heat_figure(study: Study, width: float | None = None) -> Figure:
    """A row a number, a column a combination of the axes that are neither x nor the vertical one; grey: no such run."""
    x, across = study.layout.x, study.layout.across
    assert x is not None
    assert across is not None
    facets = heat_facets(study)
    rows = []
    for y in study.drawn(len(facets)):
        grids = [_grid_of(settings, x, across, y) for _, settings in facets]
        norm = _norm(y, grids)
        rows.append([Panel(partial(_draw_heat, grid=one, norm=norm, x=x, across=across), _nothing) for one in grids])
    if len(facets) == 1:
        names = [y.label for y in study.drawn(1)]
        return wrapped(names, [one for (one,) in rows], [], width, across.label, x.label)
    names = [f"{y.label}\n{across.label}" for y in study.drawn(len(facets))]
    return draw_panels(names, [words for words, _ in facets], rows, [], width, of_axis=x.label)


def heat_facets(study: Study) -> list[tuple[str, list[Setting]]]:
    """The settings by the axes that are neither x nor the vertical one, which stand above."""
    return by_values(study.settings, [one for one in study.by if one not in (study.layout.x, study.layout.across)])


def _grid_of(settings: Sequence[Setting], x: Column, across: Column, y: Column) -> numpy.ndarray:
    """(values of across, values of x): the mean over the runs that are done; nan where there is none."""
    grid = numpy.full((len(across.texts), len(x.texts)), numpy.nan)
    for setting in settings:
        place = across.texts.index(setting.values[across.name]), x.texts.index(setting.values[x.name])
        grid[place] = over_seeds(setting.done, y.of).mean
    return grid


def _norm(y: Column, grids: Sequence[numpy.ndarray]) -> Normalize:
    values = numpy.concatenate([grid.ravel() for grid in grids])
    values = values[numpy.isfinite(values)]
    if not len(values):
        return Normalize(0, 1)
    return (LogNorm if y.log and values.min() > 0 else Normalize)(values.min(), values.max())


def _draw_heat(axes: Axes, grid: numpy.ndarray, norm: Normalize, x: Column, across: Column) -> None:
    """With the numbers in their places where there is room for them, else with a scale of the colours beside it."""
    axes.set_facecolor("0.9")
    image = axes.imshow(grid, norm=norm, cmap=SCALE, aspect="auto", origin="lower", interpolation="nearest")
    for axis, column in ((axes.xaxis, x), (axes.yaxis, across)):
        every = -(-len(column.texts) // MOST_TICKS)
        places = range(0, len(column.texts), every)
        axis.set_ticks(places, [tick(column.texts[place]) for place in places], parse_math=False)
    if grid.size > MOST_WRITTEN:
        figure = axes.get_figure(root=True)
        assert figure is not None
        bar = figure.colorbar(image, ax=axes).ax
        bar.tick_params(labelsize="x-small", which="both")
        label_ticks(bar.yaxis)
        return
    for (down, right), value in numpy.ndenumerate(grid):
        if math.isfinite(value):
            shade = "white" if norm(value) < DARK else "black"
            axes.text(right, down, f"{value:.3g}", ha="center", va="center", fontsize="xx-small", color=shade)


def _nothing(axes: Axes) -> None:
    """Heat maps have their scales already."""
