"""The one style of all figures: colours, line styles, a curve of a record, the red line of zero error, axes, files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import matplotlib

matplotlib.use("Agg")

import numpy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from ncexp.measure.quantities import BOTH, DECOMPOSITION, Quantity
from ncexp.record import Record, SavedRun, column
from ncexp.record.files import replace_file

#: Okabe and Ito's colours, which colour-blind readers distinguish; red is kept for zero error.
BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000"
RED = "#D0021B"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK)
#: Line styles, in order of use: train and test, first and second curve, first and second loss.
Line = Literal["-", "--", ":"]
LINES: tuple[Line, ...] = ("-", "--", ":")
#: Of a PNG, per inch.
DPI = 130


@dataclass(frozen=True)
class Curve:
    """One line of a panel: the number it shows, by full name, what the legend calls it, and how it is drawn."""

    name: str
    label: str
    colour: str
    line: Line


def curves_of(rows: Sequence[Quantity], splits: Sequence[str] = BOTH) -> list[Curve]:
    """The curves of a panel with these rows: a colour for each row, a line style for each split.

    Of the MSE decomposition the whole, which comes first, is dotted and black.
    """
    whole: list[tuple[str, Line | None]] = [(BLACK, ":")] if rows[0].panel == DECOMPOSITION else []
    styles = [*whole, *((colour, None) for colour in PALETTE)]
    curves = []
    for row, (colour, line) in zip(rows, styles, strict=False):
        of = [row.curve] if len(rows) > 1 else []
        for split, style in zip(BOTH, LINES, strict=False):
            if split in row.splits and split in splits:
                label = ", ".join([*of, split] if (len(row.splits) > 1 and len(splits) > 1) or not of else of)
                curves.append(Curve(f"{split}/{row.name}", label, colour, line or style))
    return curves


def draw_curve(axes: Axes, records: list[Record], curve: Curve, marker: str = "") -> None:
    """One number of the records against epoch; nothing where it is undefined throughout."""
    values = column(records, curve.name)
    if not all(map(math.isnan, values)):
        axes.plot(
            column(records, "epoch"),
            values,
            curve.line,
            color=curve.colour,
            label=curve.label,
            marker=marker,
            markersize=3,
            linewidth=1.2,
        )


def draw_zero_line(axes: Axes, run: SavedRun, line: Line = "-") -> None:
    """The red line at the zero-error epoch, where it was reached."""
    if run.zero_error_epoch is not None:
        axes.axvline(run.zero_error_epoch, color=RED, linewidth=1.1, linestyle=line)


def shown_name(run: SavedRun) -> str:
    """The run's name in a figure: that of a folder may be any, and matplotlib reads $ as mathematics."""
    return run.name.replace("$", r"\$")


def zero_error_note(run: SavedRun) -> str:
    """What the red line of a figure of this run stands for, or why there is none."""
    if run.zero_error_epoch is None:
        return "train error never ≤ 0.1 %: no red line"
    return f"red line: first epoch with train error ≤ 0.1 %, {run.zero_error_epoch}"


def axis_label(row: Quantity, runs: Sequence[SavedRun]) -> str:
    """The row's symbol; of the MSE objective without its decay where no run has one, as with cross-entropy."""
    objective, plus, _ = row.symbol.partition(" + λ")
    decays = [run.facts.get(f"ridge_{part}") for run in runs for part in ("weight", "bias")]
    return f"{objective}, λ = 0" if plus and decays and not any(decay != 0 for decay in decays) else row.symbol


def set_log(axes: Axes) -> None:
    """The vertical axis logarithmic, once all is drawn: where something is above 0, nothing else can be scaled so."""
    if any(math.isfinite(one.dataLim.minposy) for one in axes.get_shared_y_axes().get_siblings(axes)):
        axes.set_yscale("log")


def scale_axis(axes: Axes, row: Quantity) -> None:
    """The vertical axis as the catalogue has it: logarithmic, or from 0, of shares in percent."""
    if row.scale == "log":
        set_log(axes)
    else:
        axes.set_ylim(bottom=0)
    if row.scale == "percent":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def finish(axes: Axes, columns: int = 1, place: Literal["best", "lower right"] = "best") -> None:
    """A faint grid, and the legend where there are curves: every one may be undefined throughout."""
    axes.grid(alpha=0.25, linewidth=0.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, framealpha=0.9, ncols=columns, loc=place)


def plain_ticks(axes: Axes) -> None:
    """A log axis read as 1, 2, 5, 10 where it spans few decades."""
    low, high = axes.get_ylim()
    if high < 1000 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def mode_colours(count: int) -> numpy.ndarray:
    """One colour a mode, (count, 4), from dark blue for the largest ω to yellow; they differ in lightness, too."""
    return numpy.asarray(matplotlib.colormaps["viridis"](numpy.linspace(0, 0.9, count)))


def omega(mode: int) -> str:
    """ω with its number below the line."""
    return "ω" + str(mode).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def lay_out(figure: Figure) -> None:
    """Lay the figure out, once: else each of its files would be laid out anew, and drawn twice for it."""
    figure.set_dpi(DPI)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)


def save(figure: Figure, path: Path, *others: Path) -> Path:
    """Write the figure, also to the `others`, and close it; returns `path`. The same figure gives the same bytes."""
    lay_out(figure)
    for target in (path, *others):
        replace_file(target, partial(_draw, figure, target.suffix.removeprefix(".")))
    pyplot.close(figure)
    return path


def _draw(figure: Figure, kind: str, file: BinaryIO) -> None:
    figure.savefig(file.name, dpi=DPI, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
