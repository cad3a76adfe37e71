"""One number of several seeds against epoch: its mean, and one standard deviation to both sides."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from matplotlib.axes import Axes

from ncexp.measure.quantities import find
from ncexp.record import Record, SavedRun, column
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

    logarithmic: of the logarithms, as on a logarithmic axis; an exact zero has none and counts as undefined. Undefined
    values are left out of the mean.
    """
    if not records:
        return Band(*(numpy.empty(0) for _ in range(4)))
    common = set.intersection(*({record["epoch"] for record in of_seed} for of_seed in records))
    kept = [[record for record in of_seed if record["epoch"] in common] for of_seed in records]
    values = numpy.array([column(of_seed, name) for of_seed in kept])
    with warnings.catch_warnings(), numpy.errstate(divide="ignore", invalid="ignore", over="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of epochs where it is undefined for all
        if logarithmic:
            values = numpy.log(numpy.where(values > 0, values, numpy.nan))
        mean = numpy.nanmean(values, axis=0)
        spread = numpy.nan_to_num(numpy.nanstd(values, axis=0, ddof=1)) if len(values) > 1 else numpy.zeros_like(mean)
        parts = [numpy.exp(one) if logarithmic else one for one in (mean, mean - spread, mean + spread)]
    return Band(numpy.array(column(kept[0], "epoch")), *parts)


def draw_band(axes: Axes, runs: Sequence[SavedRun], curve: Curve) -> None:
    """The curve of these seeds as mean and band; nothing where it is undefined throughout."""
    row = find(curve.name)
    band = band_of([run.records for run in runs], curve.name, row is not None and row.is_log)
    if numpy.isnan(band.mean).all():
        return
    axes.plot(band.epochs, band.mean, curve.line, color=curve.colour, linewidth=1.2)
    if len(runs) > 1:
        axes.fill_between(band.epochs, band.low, band.high, color=curve.colour, alpha=0.2, linewidth=0)
