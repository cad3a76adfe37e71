"""The one style of all figures: colours and what they mean, line styles, axes, layout, files."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import matplotlib

matplotlib.use("Agg")

import numpy
from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from ncexp.record import SavedRun
from ncexp.record.files import replace_file
from ncexp.record.quantities import Quantity

#: One colour, one meaning, on every figure: Okabe and Ito's, which colour-blind readers tell apart, and two of Tol's.
#: The decomposition's parts by the last word of their names; NC1 has the colour of L_NC1, NC2 and NC3 that of L_NC2/3.
#: The ω_j have a scale of their own, `mode_colours`; grey stands in legends for all that is compared.
COLOURS = {
    "zero error": "#D0021B",
    "mse": "#0072B2",
    "cross_entropy": "#E69F00",
    "loss": "#000000",
    "loss_nc1": "#009E73",
    "loss_nc23": "#CC79A7",
    "loss_ls_perp": "#56B4E9",
    "nc4": "#882255",
}
#: What is no class's and no run's, on a light page and on a dark one.
NEUTRAL = "#888888"
#: Of what is compared and is neither trained with the MSE nor with cross-entropy, in order.
OTHERS = ("#332288", "#8C510A", "#999933")
#: After these, of many settings: matplotlib's violets, olives, browns, purples and greens; no blue, orange or red.
_TAB20B, _TAB20C = (matplotlib.colormaps[name].colors for name in ("tab20b", "tab20c"))  # type: ignore[attr-defined]
MORE = tuple(map(to_hex, [*_TAB20B[:12], *_TAB20B[16:], *_TAB20C[8:16]]))
RED = COLOURS["zero error"]
#: matplotlib's name of what stands for numbers, from dark to light: in heat maps, and for the values of a key.
SCALE = "viridis"
Line = Literal["-", "--", ":"]
#: In order of use: of the red lines of several losses.
LINES: tuple[Line, ...] = ("-", "--", ":")
#: Of train and test features, and of a panel's second quantity, the classifier's.
TRAIN_LINE, TEST_LINE, CLASSIFIER_LINE = LINES
#: Between values that count as one on a logarithmic axis, as a share.
SAME = 1e-9
#: Of a PNG, per inch.
DPI = 130


def group_colours(groups: Sequence[str]) -> dict[str, str]:
    """A colour for each loss, or other group of runs, that a figure compares.

    Blue is the MSE and orange cross-entropy, the first whose name begins so; the others have the colours of `OTHERS`
    and `MORE`, in order and from the first again.
    """
    first = {
        next((group for group in groups if group.startswith(loss)), None): loss for loss in ("mse", "cross_entropy")
    }
    others = itertools.cycle((*OTHERS, *MORE))
    return {group: COLOURS[first[group]] if group in first else next(others) for group in groups}


def key_colours(texts: Sequence[str], numeric: bool) -> dict[str, str]:
    """Value of a key → colour: of more than two numbers, in their order, from dark to light; of others as of groups."""
    if numeric and len(texts) > 2:
        return dict(zip(texts, scale_colours(len(texts)), strict=True))
    return group_colours(texts)


def axis_label(row: Quantity, runs: Sequence[SavedRun]) -> str:
    """The row's symbol; of the MSE objective without its decay where no run has one, as with cross-entropy."""
    objective, plus, _ = row.symbol.partition(" + λ")
    decays = [run.facts.get(f"ridge_{part}") for run in runs for part in ("weight", "bias")]
    return f"{objective}, λ = 0" if plus and decays and not any(decay != 0 for decay in decays) else row.symbol


def set_log(axes: Axes) -> None:
    """The vertical axis logarithmic, once all is drawn: where something is above 0, nothing else can be scaled so."""
    if any(math.isfinite(one.dataLim.minposy) for one in axes.get_shared_y_axes().get_siblings(axes)):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < low * (1 + SAME):  # values that rounding alone keeps apart: an axis of no length cannot be drawn
            axes.set_ylim(low / 2, high * 2)


def scale_axis(axes: Axes, row: Quantity) -> None:
    """The vertical axis as the catalogue has it: logarithmic, or from 0; of shares in percent."""
    if row.is_log:
        set_log(axes)
    else:
        axes.set_ylim(bottom=0)
    label_ticks(axes.yaxis, row.is_share)


def finish(
    axes: Axes, columns: int = 1, place: Literal["best", "lower right"] = "best", handles: Sequence[Artist] = ()
) -> None:
    """A faint grid, and the legend where there are curves: every one may be undefined throughout."""
    axes.grid(alpha=0.25, linewidth=0.5)
    if found := handles or axes.get_legend_handles_labels()[0]:
        axes.legend(handles=found, fontsize=8, framealpha=0.9, ncols=columns, loc=place)


def label_ticks(axis: Axis, share: bool = False) -> None:
    """Labels that can be read: of a share in percent, of a logarithmic axis two at least (`LogTicks`)."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogTicks())
        axis.set_major_formatter(LogLabels())
        axis.set_minor_formatter(NullFormatter())
    if share:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


class LogTicks(LogLocator):
    """Where a logarithmic axis has its ticks: at 1, 2, 5, 10, ... if there is room, else at decades; at two or more."""

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Those between vmin and vmax, of which matplotlib's own locator may find one alone, or none."""
        assert self.axis is not None
        low, high = sorted((vmin, vmax))
        decades, thirds, digits = (_ticks(low, high, subs) for subs in ((1.0,), (1.0, 2.0, 5.0), range(1, 10)))
        if 2 <= len(thirds) <= max(2, self.axis.get_tick_space()):
            return thirds
        if len(decades) > 1:
            return super().tick_values(vmin, vmax)
        several = next((one for one in (thirds, digits) if len(one) > 1), None)
        return MaxNLocator(3).tick_values(low, high) if several is None else several


def _ticks(low: float, high: float, subs: Sequence[float]) -> list[float]:
    values = LogLocator(subs=subs, numticks=10_000).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]


class LogLabels(LogFormatterMathtext):
    """0.5, 1, 2 where the axis spans less than three decades, else powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        assert self.axis is not None
        low, high = sorted(self.axis.get_view_interval())
        return f"{x:g}" if high < 1000 * low else super().__call__(x, pos)


def mode_colours(count: int) -> numpy.ndarray:
    """One colour a mode, (count, 4), from dark blue for the largest ω to yellow; they differ in lightness."""
    return numpy.asarray(matplotlib.colormaps["cividis"](numpy.linspace(0, 0.9, count)))


def scale_colours(count: int) -> list[str]:
    """One colour a number, from dark to light; without the last tenth of the scale, which white paper hides."""
    return [to_hex(colour) for colour in matplotlib.colormaps[SCALE](numpy.linspace(0, 0.9, count))]


def class_colours(classes: Sequence[int]) -> list[str]:
    """One colour a class, the same whichever others are drawn, where ten suffice; else around the circle, in order."""
    if max(classes) < 10:
        return [to_hex(matplotlib.colormaps["tab10"](one)) for one in classes]
    return [to_hex(matplotlib.colormaps["hsv"](place / len(classes))) for place in range(len(classes))]


def omega(mode: int) -> str:
    """ω with its number below the line."""
    return "ω" + str(mode).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def lay_out(figure: Figure) -> None:
    """Lay the figure out, once: else each of its files would be laid out anew, and drawn twice for it.

    Words that are longer than their place are broken into lines; then the room for them is found anew.
    """
    figure.set_dpi(DPI)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        for _ in range(3):  # lines that a title gains are room that labels lose
            if not _break_what_is_too_long(figure):
                break
            engine.execute(figure)
        figure.set_layout_engine(None)


def _break_what_is_too_long(figure: Figure) -> bool:
    """Whether there was a word of a panel longer than it, or one of the figure longer than what legends leave of it."""
    legends = sum(extent_of(legend).height for legend in figure.legends)
    places = [(text, figure.bbox.width, figure.bbox.height - 2 * legends) for text in figure.texts]
    for axes in figure.axes:
        words = [child for child in axes.get_children() if isinstance(child, Text)]
        places += [(text, *axes.bbox.size) for text in [*words, axes.xaxis.label, axes.yaxis.label]]
    broken = [break_lines(text, high if text.get_rotation() == 90 else wide) for text, wide, high in places]
    return any(broken)


def break_lines(text: Text, room: float) -> bool:
    """Break the lines of `text` so that none is longer than `room`, in pixels; whether there was one.

    Not below eight letters a line, which no figure is too small for.
    """
    lines = text.get_text().split("\n")
    whole = most = max(map(len, lines))
    along = 1 if text.get_rotation() == 90 else 0
    while most > 8 and (length := extent_of(text).size[along]) > room:
        most = max(8, min(most - 1, int(most * room / length)))
        text.set_text("\n".join(part for line in lines for part in textwrap.wrap(line, most) or [""]))
    return most < whole


def extent_of(artist: Artist) -> Bbox:
    """In pixels of the figure as it is now; a text itself remembers those of its first resolution."""
    figure = artist.get_figure(root=True)
    assert figure is not None
    return Bbox(artist.get_window_extent(figure._get_renderer()))  # type: ignore[attr-defined]


def save(figure: Figure, path: Path, *others: Path) -> Path:
    """Write the figure, also to the `others`, and close it; returns `path`. The same figure gives the same bytes."""
    lay_out(figure)
    for target in (path, *others):
        replace_file(target, partial(_draw, figure, target.suffix.removeprefix(".")))
    pyplot.close(figure)
    return path


def _draw(figure: Figure, kind: str, file: BinaryIO) -> None:
    figure.savefig(file.name, dpi=DPI, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
