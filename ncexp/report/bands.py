"""One number of several seeds against epoch: its mean, and one standard deviation to both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from ncexp.record import Record, SavedRun, State, column
from ncexp.record.quantities import find
from ncexp.report.style import Curve


@dataclass(frozen=True, eq=False)
class Band:
    """epochs, mean, low, high: arrays (E,). Of a single seed low and high are the mean."""

    epochs: numpy.ndarray
    mean: numpy.ndarray
    low: numpy.ndarray
    high: numpy.ndarray


def band_of(records: Sequence[Sequence[Record]], name: str, logarithmic: bool) -> Band:
    """At the epochs that all seeds have: the mean over seeds and one standard deviation (n − 1) to both sides.

    logarithmic: of the logarithms, as on a logarithmic axis; an exact zero has none and counts as undefined. Where one
    seed's value is undefined the mean is, too: a mean over other seeds from epoch to epoch would jump.
    """
    if not records:
        return Band(*(numpy.empty(0) for _ in range(4)))
    common = set.intersection(*({record["epoch"] for record in of_seed} for of_seed in records))
    kept = [[record for record in of_seed if record["epoch"] in common] for of_seed in records]
    values = numpy.array([column(of_seed, name) for of_seed in kept])
    with numpy.errstate(invalid="ignore", over="ignore"):
        if logarithmic:
            values = numpy.log(numpy.where(values > 0, values, numpy.nan))
        mean = values.mean(axis=0)
        spread = numpy.nan_to_num(values.std(axis=0, ddof=1)) if len(values) > 1 else numpy.zeros_like(mean)
        parts = [numpy.exp(one) if logarithmic else one for one in (mean, mean - spread, mean + spread)]
    return Band(numpy.array(column(kept[0], "epoch")), *parts)


def bands_of(records: Sequence[Sequence[Record]], name: str, logarithmic: bool, alike: bool = True) -> list[Band]:
    """The band of all seeds, or one of each: where they are not `alike`, as while some are not done, and where the mean
    would show less than half of what one of them has: they were evaluated after other epochs, or the number is
    undefined for some.
    """
    together = band_of(records, name, logarithmic)
    apart = [band_of([of_seed], name, logarithmic) for of_seed in records]
    most = max(map(_defined, apart), default=0)
    return [together] if alike and 2 * _defined(together) >= most else apart


def draw_band(axes: Axes, runs: Sequence[SavedRun], curve: Curve) -> None:
    """The curve of these seeds, see `bands_of`; nothing where it is undefined throughout."""
    row = find(curve.name)
    done = all(run.state is State.COMPLETED for run in runs)
    bands = bands_of([run.records for run in runs], curve.name, row is not None and row.is_log, done)
    for band in bands:
        if count := _defined(band):
            marker = "." if count == 1 else ""  # a line of one point is not seen
            axes.plot(band.epochs, band.mean, curve.line, color=curve.colour, marker=marker, linewidth=1.2)
            fill_band(axes, band, curve.colour)


def fill_band(axes: Axes, band: Band, colour: ColorType) -> None:
    """Between low and high; nothing of a single seed."""
    if not numpy.array_equal(band.low, band.high, equal_nan=True):
        axes.fill_between(band.epochs, band.low, band.high, color=colour, alpha=0.2, linewidth=0)


def _defined(band: Band) -> int:
    return int(numpy.isfinite(band.mean).sum())
