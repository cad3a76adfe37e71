"""A figure made of panels: rows and columns with names, one legend on top, laid out for its width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ncexp.report.style import DPI, break_lines, extent_of, lay_out

#: Inches: of a panel, and the narrowest one that can be read; what labels take beside panels, and titles above them.
PANEL, NARROWEST, BESIDE, ABOVE = (2.3, 1.75), 0.8, 1.3, 0.9
#: Most entries in a line of the legend; most panels in a line of figures that have no columns of their own.
ENTRIES, IN_A_LINE = 7, 4


@dataclass(frozen=True)
class Panel:
    """draw: draws it, and returns what stands above it; None where there is nothing to draw: the panel is grey.

    scale: scales the vertical axis, once all panels that share it are drawn.
    """

    draw: Callable[[Axes], str | None] | None
    scale: Callable[[Axes], None]


def draw_panels(
    down: Sequence[str],
    across: Sequence[str],
    panels: Sequence[Sequence[Panel | None]],
    handles: Sequence[Artist],
    width: float | None = None,
    *,
    label: str = "",
    of_axis: str = "epoch",
    sharey: Literal["all", "row", "none"] = "row",
    sharex: bool = True,
) -> Figure:
    """Columns are named above, rows at the left; the legend stands on top. None: there is no panel at this place.

    width: of the figure in inches; without it as its panels need. Raises ValueError where they are too narrow to read.
    """
    wide = max(PANEL[0] * len(across) + BESIDE, 4.6) if width is None else width
    tall = PANEL[1] * (1 if width is None else max((wide - BESIDE) / len(across), NARROWEST) / PANEL[0])
    figure, grid = pyplot.subplots(
        len(down), len(across), sharex=sharex, sharey=sharey, squeeze=False, layout="constrained", figsize=(wide, tall)
    )
    for place, (row, of_row, line) in enumerate(zip(down, panels, grid, strict=True)):
        line[0].set_ylabel(row, fontsize="small", parse_math=False)
        for column, panel, axes in zip(across, of_row, line, strict=True):
            if panel is None:
                axes.set_axis_off()
                grid[place - 1, axes.get_subplotspec().colspan.start].tick_params(labelbottom=True)
                continue
            words = [column if place == 0 else "", panel.draw(axes) if panel.draw else ""]
            axes.set_title("\n".join(filter(None, words)), fontsize="small", y=1, pad=3, parse_math=False)
            if panel.draw is None:
                axes.set_facecolor("0.96")
        for panel, axes in [*zip(of_row, line, strict=True)][: None if sharey == "none" else 1]:
            if panel is not None:
                panel.scale(axes)
    for axes in grid.flat:
        _tidy(axes)
    figure.supxlabel(of_axis, fontsize="small")
    figure.supylabel(label, fontsize="small", multialignment="center")
    legend = _add_legend(figure, handles)
    figure.set_size_inches(wide, tall * len(down) + ABOVE + legend)
    lay_out(figure)
    each = grid[0][0].bbox.width / DPI
    if each < NARROWEST:
        raise ValueError(
            f"width: expected {wide + (NARROWEST - each) * len(across):.1f} inches or more for {len(across)} panels "
            f"side by side, got {wide:g}. Choose fewer facets, or a wider figure."
        )
    return figure


def _tidy(axes: Axes) -> None:
    """A faint grid and small labels; without the small ticks of a logarithmic axis, which cost more than all curves."""
    if not axes.images:
        axes.grid(alpha=0.25, linewidth=0.5)
    axes.tick_params(labelsize="x-small")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    for spine in axes.spines.values():
        spine.set_in_layout(False)  # within its panel anyhow


def _add_legend(figure: Figure, handles: Sequence[Artist]) -> float:
    """With as many entries in a line as there is room for; returns its height in inches."""
    figure.set_dpi(DPI)
    if not handles:
        return 0.0
    for entries in range(min(ENTRIES, len(handles)), 0, -1):
        for legend in figure.legends:
            legend.remove()
        legend = figure.legend(
            handles=handles, ncols=entries, loc="outside upper center", fontsize="small", frameon=False
        )
        for text in legend.get_texts():  # words of a run, in which a dollar is a dollar
            text.set_parse_math(False)
        if extent_of(legend).width <= figure.bbox.width:
            break
    else:
        for text in legend.get_texts():
            break_lines(text, 0.8 * figure.bbox.width)
    return extent_of(legend).height / DPI


def wrap(panels: Sequence[Panel], most: int = IN_A_LINE) -> list[list[Panel | None]]:
    """Panels in lines of at most `most`, as even as they come; the last line is filled with None."""
    lines = -(-len(panels) // most)
    each = -(-len(panels) // lines)
    filled = [*panels, *[None] * (lines * each - len(panels))]
    return [filled[start : start + each] for start in range(0, len(filled), each)]


def wrapped(
    names: Sequence[str],
    drawn: Sequence[Panel],
    handles: Sequence[Artist],
    width: float | None,
    label: str = "",
    of_axis: str = "epoch",
) -> Figure:
    """Panels in lines, each with its name above it and a scale of its own."""

    def named(axes: Axes, panel: Panel, name: str) -> str:
        said = panel.draw(axes) if panel.draw else ""
        return f"{name}\n{said}" if said else name

    whole = [replace(one, draw=partial(named, panel=one, name=name)) for one, name in zip(drawn, names, strict=True)]
    most = 4 if width is None else max(1, int((width - 1) / 1.2))
    lines = wrap(whole, most)
    down, across = [""] * len(lines), [""] * len(lines[0])
    return draw_panels(down, across, lines, handles, width, label=label, of_axis=of_axis, sharey="none")
