"""What the figures share: colours, a curve of the record, the red line of zero error."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ncexp.journal import Record, column
from ncexp.summary import zero_error_epoch

#: Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"
RED = "#D0021B"
TRAIN, TEST = "-", "--"


def curve(axes: Axes, records: list[Record], name: str, label: str, color: str, linestyle: str) -> None:
    """One quantity of the records against epoch; nothing where it is undefined throughout."""
    values = column(records, name)
    if not all(math.isnan(value) for value in values):
        axes.plot(
            column(records, "epoch"),
            values,
            linestyle,
            color=color,
            label=label,
            marker=".",
            markersize=3,
            linewidth=1.2,
        )


def finish(axes: Axes, records: list[Record]) -> None:
    """The red line of zero error, the axis of epochs, a faint grid and the legend."""
    if (zero := zero_error_epoch(records)) is not None:
        axes.axvline(zero, color=RED, linewidth=1.2)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25, linewidth=0.5)
    if axes.get_legend_handles_labels()[0]:  # every curve may be undefined throughout
        axes.legend(fontsize=8, framealpha=0.9)


def save(figure: Figure, path: Path) -> Path:
    """Write and close the figure."""
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path


def mode_colours(count: int) -> numpy.ndarray:
    """One colour a mode, (count, 4), from dark blue for the largest ω to yellow: told apart by colour-blind readers."""
    return numpy.asarray(matplotlib.colormaps["viridis"](numpy.linspace(0, 0.9, count)))


def omega(mode: int) -> str:
    """ω with its number below the line."""
    return "ω" + str(mode).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def plain_ticks(axes: Axes) -> None:
    """A log axis read as 1, 2, 5, 10 where it spans few decades."""
    low, high = axes.get_ylim()
    if high < 1000 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
