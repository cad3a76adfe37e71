"""What a grid's panel shows of the central path: the measured spectrum, and the closed form laid along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from ncexp.measure import Comparison, compare_with_path
from ncexp.record import Record, SavedRun
from ncexp.report.bands import Band, bands_of, fill_band
from ncexp.report.style import mode_colours, omega
from ncexp.report.sweep import Place

#: Cell → the comparison of each of its seeds with the central path.
Fits = Mapping[Place, Sequence[Comparison]]
#: Modes that a legend names one by one.
MOST_NAMED = 9


def fits_of(runs: Sequence[SavedRun]) -> list[Comparison]:
    """Of the runs that have a spectrum."""
    return [found for run in runs if (found := compare_with_path(run)) is not None]


def draw_spectra(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    """ω_j, a colour a mode: measured as points, with a band over seeds; the closed form as lines.

    Each seed by itself where only some have a fit: the mean of their lines would miss the mean of all points.
    """
    if not comparisons:
        return
    modes = comparisons[0].modes
    fitted = [one.fit for one in comparisons if one.fit is not None]
    alike = len(fitted) in (0, len(comparisons))
    for place, (mode, colour) in enumerate(zip(modes, mode_colours(len(modes)), strict=True)):
        for measured in _bands([_records(one.epochs, one.spectra[:, place], mode) for one in comparisons], mode, alike):
            axes.plot(measured.epochs, measured.mean, ".", color=colour, markersize=2.5)
            fill_band(axes, measured, colour)
        for theory in _bands([_records(fit.epochs, fit.predicted[:, place], mode) for fit in fitted], mode, alike):
            axes.plot(theory.epochs, theory.mean, "-", color=colour, linewidth=0.9)


def draw_residuals(axes: Axes, comparisons: Sequence[Comparison], colour: str) -> None:
    """The root mean square over modes of log(measured/theory) against epoch: mean and band over seeds."""
    fits = [one.fit for one in comparisons if one.fit is not None]
    of_seeds = [_records(fit.epochs, fit.residuals.square().mean(1).sqrt(), 0) for fit in fits]
    for band in bands_of(of_seeds, "0", False, len(fits) == len(comparisons)):
        axes.plot(band.epochs, band.mean, ".-", color=colour, linewidth=1, markersize=2.5)
        fill_band(axes, band, colour)


def spectrum_handles(fits: Fits, loss: str) -> list[Line2D]:
    """The legend's entries: modes by colour, of many the first and the last; what points and lines are."""
    modes = max((found[0].modes for place, found in fits.items() if place[2] == loss and found), key=len)
    named = [*zip(modes, mode_colours(len(modes)), strict=True)]
    shown = named if len(named) <= MOST_NAMED else [named[0], named[-1]]
    handles = [Line2D([], [], color=colour, marker=".", label=omega(mode)) for mode, colour in shown]
    handles.append(Line2D([], [], color="0.3", marker=".", linestyle="", label="measured"))
    return [*handles, Line2D([], [], color="0.3", label="closed form")]


def _records(epochs: Tensor, values: Tensor, name: int) -> list[Record]:
    return [{"epoch": epoch, str(name): value} for epoch, value in zip(epochs.tolist(), values.tolist(), strict=True)]


def _bands(of_seeds: Sequence[Sequence[Record]], mode: int, alike: bool) -> list[Band]:
    return bands_of(of_seeds, str(mode), True, alike)
