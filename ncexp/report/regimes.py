"""Theory against training, regime by regime: a sweep's measured spectra and the closed form laid along each."""

from __future__ import annotations

import math

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncexp.measure import Comparison, compare_with_path
from ncexp.record import SavedRun
from ncexp.report.style import draw_zero_line, label_ticks, mode_colours, set_log
from ncexp.report.sweep import Cell, Sweep

CAPTION = (
    "The SNR spectrum ω_j in each regime: points, measured (first seed); lines, the closed form from zero error on. "
    "Above each panel, over the seeds: rms error of an ω, and what the closed form explains of the differences between "
    "modes (below 0: growth common to all fits better)."
)


def has_regimes(sweep: Sweep) -> bool:
    """Whether some run is on the central path by its regime."""
    return any(run.choices.get("regime", "plain") != "plain" for run in sweep.runs)


def regimes_grid(sweep: Sweep) -> Figure:
    """A column for each loss and regime, a row for each dataset and network."""
    rows = list(dict.fromkeys(place[:2] for place in sweep.cells))
    columns = sweep.losses
    size = (3.1 * len(columns) + 0.8, 2.6 * len(rows) + 0.6)
    figure, grid = pyplot.subplots(
        len(rows), len(columns), figsize=size, layout="constrained", sharex=True, sharey="row", squeeze=False
    )
    for (dataset, architecture), line in zip(rows, grid, strict=True):
        line[0].set_ylabel(f"{dataset}, {architecture}\nω_j", fontsize=9)
        for loss, axes in zip(columns, line, strict=True):
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.tick_params(which="both", labelsize=7)
            if (cell := sweep.cells.get((dataset, architecture, loss))) is not None:
                axes.set_title(f"{loss}\n{_draw_cell(axes, cell)}", fontsize=8)
        set_log(line[0])
        label_ticks(line[0].yaxis)  # which the row shares
    figure.supxlabel("epoch (red: first with train error ≤ 0.1 %)", fontsize=9)
    return figure


def _draw_cell(axes: Axes, cell: Cell) -> str:
    """Draws the first seed; returns the fits of all in words."""
    compared = [(run, comparison) for run in cell.best if (comparison := compare_with_path(run)) is not None]
    if not compared:
        return "no spectra"
    _draw_run(axes, *compared[0])
    fits = [comparison.fit for _, comparison in compared if comparison.fit is not None]
    if not fits:
        return compared[0][1].reason
    spreads = [fit.explained_spread for fit in fits if not math.isnan(fit.explained_spread)]
    explained = f", explains {_range([100 * share for share in spreads], ',.0f')} %" if spreads else ""
    counted = f", {len(fits)} of {len(cell.best)} seeds" if len(fits) < len(cell.best) else ""
    return f"rms {_range([100 * fit.rms for fit in fits], '.3g')} %{explained}{counted}"


def _draw_run(axes: Axes, run: SavedRun, comparison: Comparison) -> None:
    fit = comparison.fit
    for place, colour in enumerate(mode_colours(len(comparison.modes))):
        axes.plot(comparison.epochs.numpy(), comparison.spectra[:, place].numpy(), ".", color=colour, markersize=3)
        if fit is not None:
            axes.plot(fit.epochs.numpy(), fit.predicted[:, place].numpy(), color=colour, linewidth=0.9)
    draw_zero_line(axes, run)


def _range(values: list[float], places: str) -> str:
    low, high = (f"{value:{places}}".replace("-", "−") for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
