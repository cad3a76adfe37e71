"""Theory against training: measured SNR spectra of one run beside the closed form laid along them (HPD22 section 3)."""

from __future__ import annotations

import math

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncexp.collapse import PathFit
from ncexp.measure import Comparison
from ncexp.record import SavedRun
from ncexp.report.style import (
    draw_zero_line,
    finish,
    label_ticks,
    mode_colours,
    omega,
    set_log,
    shown_name,
    zero_error_note,
)


def central_path_figure(run: SavedRun, comparison: Comparison) -> Figure:
    """ω_j(epoch): measured as points, the fitted closed form as lines; below, the residual of every mode."""
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(8.4, 7.2), layout="constrained", sharex=True, height_ratios=[2.2, 1]
    )
    _draw_spectra(top, comparison)
    if comparison.fit is not None:
        _draw_path(top, comparison.fit)
        _draw_residuals(bottom, comparison.fit)
    set_log(top)
    top.set_ylabel("ω: class means in units of the noise within classes")
    label_ticks(top.yaxis)
    bottom.set(xlabel="epoch", ylabel="log (measured / theory)")
    for axes in (top, bottom):
        draw_zero_line(axes, run)
        finish(axes, columns=2, place="lower right")
    heading = f"{shown_name(run)}     {zero_error_note(run)}\nSNR spectrum of the train features, "
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
