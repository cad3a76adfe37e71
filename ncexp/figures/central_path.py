"""Theory against training: measured SNR spectra of one run beside the closed form laid along them (HPD22 section 3)."""

from __future__ import annotations

import math

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncexp.collapse import PathFit
from ncexp.figures.style import RED, mode_colours, omega, plain_ticks
from ncexp.journal import Record
from ncexp.summary import zero_error_epoch
from ncexp.theory import Comparison


def central_path_figure(records: list[Record], comparison: Comparison, title: str) -> Figure:
    """ω_j(epoch): measured as points, the fitted closed form as lines; below, the residual of every mode."""
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(8.4, 7.2), layout="constrained", sharex=True, height_ratios=[2.2, 1]
    )
    _draw_spectra(top, comparison)
    if comparison.fit is not None:
        _draw_path(top, comparison.fit)
        _draw_residuals(bottom, comparison.fit)
    zero = zero_error_epoch(records)
    for axes in (top, bottom):
        if zero is not None:
            axes.axvline(zero, color=RED, linewidth=1.2)
        axes.grid(alpha=0.25, linewidth=0.5)
    top.set(yscale="log", ylabel="ω: class means in units of the noise within classes")
    plain_ticks(top)
    top.legend(fontsize=8, framealpha=0.9, ncols=2, loc="lower right")
    bottom.set(xlabel="epoch", ylabel="log (measured / theory)")
    heading = f"{title}     red line: first epoch with train error ≤ 0.1 %\nSNR spectrum of the train features, "
    figure.suptitle(heading + comparison.sentence().replace("; ", ";\n"), fontsize=10)
    return figure


def _draw_spectra(axes: Axes, comparison: Comparison) -> None:
    """The measured ω_j as points, pale before the epoch from which the path is fitted."""
    epochs, spectra = comparison.epochs.numpy(), comparison.spectra.numpy()
    before = epochs < (math.inf if comparison.fit is None else float(comparison.fit.epochs[0]))
    for place, (mode, colour) in enumerate(zip(comparison.modes, mode_colours(len(comparison.modes)), strict=True)):
        axes.plot(epochs[before], spectra[before, place], ".", color=colour, markersize=5, alpha=0.4)
        axes.plot(epochs[~before], spectra[~before, place], ".", color=colour, markersize=6)
        axes.plot([], [], "o", color=colour, markersize=5, label=f"{omega(mode)} measured")


def _draw_path(axes: Axes, fit: PathFit) -> None:
    for place, colour in enumerate(mode_colours(fit.predicted.shape[1])):
        axes.plot(fit.epochs.numpy(), fit.predicted[:, place].numpy(), color=colour, linewidth=1.3)
    axes.plot([], [], "-", color="0.3", linewidth=1.3, label="closed form")


def _draw_residuals(axes: Axes, fit: PathFit) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    for place, colour in enumerate(mode_colours(fit.residuals.shape[1])):
        axes.plot(fit.epochs.numpy(), fit.residuals[:, place].numpy(), ".-", color=colour, linewidth=0.8)
