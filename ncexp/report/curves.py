"""What figures draw: a number of several seeds against epoch as mean and band, spectra, and the red line of zero error.

A series is two arrays of equal length, positions on the horizontal axis and values, of one seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from ncexp.measure import Comparison
from ncexp.record import SavedRun, State, column
from ncexp.record.quantities import BOTH, Quantity, find
from ncexp.report.style import CLASSIFIER_LINE, COLOURS, RED, TEST_LINE, TRAIN_LINE, Line, mode_colours, omega

Series = tuple[numpy.ndarray, numpy.ndarray]
#: Modes that a legend names one by one.
MOST_NAMED = 9


@dataclass(frozen=True)
class Curve:
    """One line of a panel: the number it shows, by full name, what the legend calls it, and how it is drawn."""

    name: str
    label: str
    colour: str
    line: Line

    @property
    def handle(self) -> Line2D:
        """For a legend."""
        return Line2D([], [], color=self.colour, linestyle=self.line, label=self.label)


def curves_of(rows: Sequence[Quantity], splits: Sequence[str], colour: str) -> list[Curve]:
    """The curves of a panel with these rows, all in `colour`: train solid, test dashed, the second row dotted.

    The parts of the decomposition have their own colours; the whole, which comes first, is dotted and black.
    """
    curves = []
    for place, row in enumerate(rows):
        part = COLOURS.get(row.name.partition("/")[2]) if row.name.startswith("mse/") else None
        dotted = (place == 0) if part else place > 0
        of = [row.curve] if len(rows) > 1 else []
        for split, line in zip(BOTH, (TRAIN_LINE, TEST_LINE), strict=True):
            if split in row.splits and split in splits:
                label = ", ".join([*of, split] if (len(row.splits) > 1 and len(splits) > 1) or not of else of)
                curves.append(Curve(f"{split}/{row.name}", label, part or colour, CLASSIFIER_LINE if dotted else line))
    return curves


@dataclass(frozen=True, eq=False)
class Band:
    """positions, mean, low, high: arrays (E,). Of a single seed low and high are the mean."""

    positions: numpy.ndarray
    mean: numpy.ndarray
    low: numpy.ndarray
    high: numpy.ndarray

    @property
    def count(self) -> int:
        """At how many positions the mean is defined."""
        return int(numpy.isfinite(self.mean).sum())

    def draw(self, axes: Axes, line: str, colour: ColorType, size: float = 3.0, width: float = 1.2) -> Line2D:
        """The mean as a line, which of one point is a mark, and the band where there are several seeds."""
        marked = "." if self.count == 1 and line in (TRAIN_LINE, TEST_LINE, CLASSIFIER_LINE) else ""
        (drawn,) = axes.plot(
            self.positions,
            self.mean,
            marked + line,
            color=colour,
            markersize=2 * size if marked else size,
            linewidth=width,
        )
        if not numpy.array_equal(self.low, self.high, equal_nan=True):
            axes.fill_between(self.positions, self.low, self.high, color=colour, alpha=0.2, linewidth=0)
        return drawn


def band_of(seeds: Sequence[Series], logarithmic: bool) -> Band:
    """At the positions that all seeds have: the mean over seeds and one standard deviation (n − 1) to both sides.

    logarithmic: of the logarithms, as on a logarithmic axis; an exact zero has none and counts as undefined. Where one
    seed's value is undefined the mean is, too: a mean over other seeds from epoch to epoch would jump.
    """
    if len(seeds) == 1:
        return Band(seeds[0][0], *(seeds[0][1],) * 3)
    common = sorted(set.intersection(*({*positions.tolist()} for positions, _ in seeds)))
    values = numpy.array([one[numpy.isin(positions, common)] for positions, one in seeds])
    with numpy.errstate(invalid="ignore", over="ignore"):
        if logarithmic:
            values = numpy.log(numpy.where(values > 0, values, numpy.nan))
        mean, spread = values.mean(axis=0), numpy.nan_to_num(values.std(axis=0, ddof=1))
        parts = [numpy.exp(one) if logarithmic else one for one in (mean, mean - spread, mean + spread)]
    return Band(numpy.array(common), *parts)


def bands_of(seeds: Sequence[Series], logarithmic: bool, alike: bool = True) -> list[Band]:
    """The band of all seeds, or one of each: where they are not `alike`, as while some are not done, and where the mean
    would show less than half of what one of them has: they were evaluated after other epochs, or the number is
    undefined for some. Nothing of what is undefined throughout.
    """
    if not seeds:
        return []
    together, apart = band_of(seeds, logarithmic), [band_of([one], logarithmic) for one in seeds]
    most = max(band.count for band in apart)
    return [one for one in ([together] if alike and 2 * together.count >= most else apart) if one.count]


def draw_curve(axes: Axes, runs: Sequence[SavedRun], curve: Curve, line: str | None = None) -> None:
    """The curve of these seeds; named for a legend."""
    row = find(curve.name)
    done = all(run.state is State.COMPLETED for run in runs)
    seeds = [tuple(numpy.array(column(run.records, name)) for name in ("epoch", curve.name)) for run in runs]
    for band in bands_of(seeds, row is not None and row.is_log, done):  # type: ignore[arg-type]
        band.draw(axes, line or curve.line, curve.colour).set_label(curve.label)


def spectrum_series(comparisons: Sequence[Comparison]) -> tuple[list[Series], list[Series]]:
    """Measured, and by the closed form, of those that have a fit: epochs (E,) and ω_j (E, K) of each."""
    fits = [one.fit for one in comparisons if one.fit is not None]
    return (
        [(one.epochs.numpy(), one.spectra.numpy()) for one in comparisons],
        [(fit.epochs.numpy(), fit.predicted.numpy()) for fit in fits],
    )


def draw_spectra(axes: Axes, measured: Sequence[Series], theory: Sequence[Series], size: float = 2.5) -> None:
    """ω_j, a colour a mode: measured as points, with a band over seeds; the closed form as lines.

    Each seed by itself where only some have a fit: the mean of their lines would miss the mean of all points.
    """
    alike = len(theory) in (0, len(measured))
    for of_seeds, line in ((measured, "."), (theory, "-")):
        for mode, colour in enumerate(mode_colours(measured[0][1].shape[1]) if measured else []):
            for band in bands_of([(positions, one[:, mode]) for positions, one in of_seeds], True, alike):
                band.draw(axes, line, colour, size, 0.9)


def spectrum_handles(modes: Sequence[int]) -> list[Line2D]:
    """The legend's entries: modes by colour, of many the first and the last; what points and lines are."""
    named = [*zip(modes, mode_colours(len(modes)), strict=True)]
    shown = named if len(named) <= MOST_NAMED else [named[0], named[-1]]
    handles = [Line2D([], [], color=colour, marker=".", label=omega(mode)) for mode, colour in shown]
    handles.append(Line2D([], [], color="0.3", marker=".", linestyle="", label="measured"))
    return [*handles, Line2D([], [], color="0.3", label="closed form")]


def draw_residuals(axes: Axes, comparisons: Sequence[Comparison], colour: str) -> None:
    """The root mean square over modes of log(measured/theory) against epoch: mean and band over seeds."""
    fits = [one.fit for one in comparisons if one.fit is not None]
    seeds = [(fit.epochs.numpy(), fit.residuals.square().mean(1).sqrt().numpy()) for fit in fits]
    for band in bands_of(seeds, False, len(fits) == len(comparisons)):
        band.draw(axes, ".-", colour, 2.5, 1.0)


def draw_zero_error(axes: Axes, runs: Sequence[SavedRun], line: Line = "-", named: bool = True) -> None:
    """The red line at the mean of the zero-error epochs of the seeds that reached one; named: how many of several."""
    reached = [run.zero_error_epoch for run in runs if run.zero_error_epoch is not None]
    if reached:
        mean = statistics.fmean(reached)
        axes.axvline(mean, color=RED, linewidth=1, linestyle=line)
        if named and len(runs) > 1:
            top = 0.98 if line == "-" else 0.6  # of two losses in one panel, each has a place
            said, place = f"{len(reached)} of {len(runs)} seeds", axes.get_xaxis_transform()
            axes.text(mean, top, said, color=RED, fontsize=5, rotation=90, ha="right", va="top", transform=place)
