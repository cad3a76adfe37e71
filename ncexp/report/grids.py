"""The paper's figure grids: datasets across, networks down, epochs in every panel; vector PDF and PNG of each."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from ncexp.record import counted
from ncexp.record.quantities import BOTH, DECOMPOSITION, TRAIN, Quantity, panels
from ncexp.report.bands import draw_band
from ncexp.report.layout import GridLayout
from ncexp.report.regimes import CAPTION, has_regimes, regimes_grid
from ncexp.report.spectra import Fits, draw_residuals, draw_spectra, fits_of, spectrum_handles
from ncexp.report.style import (
    LINES,
    RED,
    Curve,
    Line,
    axis_label,
    curves_of,
    group_colours,
    label_ticks,
    save,
    scale_axis,
    set_log,
)
from ncexp.report.sweep import DATASETS, Cell, Sweep, ended, last_test_error


def draw_all(sweep: Sweep, folder: Path, width: float | None = None) -> list[tuple[str, Path]]:
    """Every figure that the records allow, as (caption, PNG); the PDF lies beside it.

    width: of each figure in inches, as for one column of a paper; without it, as wide as its panels are at their usual
    size. Raises ValueError where there are more panels side by side than it has room for.
    """
    return [
        (caption, save(_sized(draw(), width), folder / f"{name}.png", folder / f"{name}.pdf"))
        for name, caption, draw in counted(list(_figures(sweep)), "figures")
    ]


def rates_grid(sweep: Sweep) -> Figure:
    """Test error at the last epoch against learning rate, mean over seeds, both axes logarithmic."""
    figure = _grid(sweep, "test error at the last epoch", _draw_rates, "learning rate")
    figure.axes[0].set_xscale("log")
    label_ticks(figure.axes[0].xaxis)
    errors = [error for cell in sweep.cells.values() for error in [*_tested(cell).values(), *_so_far(cell).values()]]
    if not errors:
        figure.axes[0].set_yticks([])
    elif min(errors) > 0:
        set_log(figure.axes[0])
    label_ticks(figure.axes[0].yaxis, share=True)
    handles = _loss_handles(sweep)
    handles.append(Line2D([], [], color="grey", marker="o", fillstyle="none", linestyle="", label="chosen"))
    handles.append(Line2D([], [], color="grey", marker="x", linestyle="", label="not done; diverged: at the top"))
    return _legend(figure, handles)


def decomposition_grid(sweep: Sweep, loss: str) -> Figure:
    """HPD22 Figure 2: L, L_NC1, L_NC2/3 and L_LS⊥ of the runs trained with `loss`, a colour for each."""
    rows = panels()[DECOMPOSITION]
    curves = curves_of(rows, TRAIN, group_colours(sweep.losses)[loss])

    def draw(axes: Axes, sweep: Sweep, cells: list[Cell]) -> None:
        for cell in cells:
            if cell.place[2] == loss:
                _draw_runs(axes, cell, curves, "-")

    runs = [run for cell in sweep.cells.values() if cell.place[2] == loss for run in cell.best]
    figure = _grid(sweep, f"{axis_label(rows[0], runs)}, trained with {loss}", draw)
    scale_axis(figure.axes[0], rows[0])
    handles = [Line2D([], [], color=one.colour, linestyle=one.line, label=one.label) for one in curves]
    return _legend(figure, [*handles, Line2D([], [], color=RED, label="zero error")])


def panel_grid(sweep: Sweep, rows: Sequence[Quantity]) -> Figure:
    """A colour for each loss, a line style for each curve; red: the first epoch of zero error, in the loss's style."""
    colours, curves = group_colours(sweep.losses), _curves(rows)

    def draw(axes: Axes, sweep: Sweep, cells: list[Cell]) -> None:
        for cell in cells:
            loss = cell.place[2]
            of_loss = [replace(one, colour=colours[loss]) for one in curves]
            _draw_runs(axes, cell, of_loss, _line(sweep.losses.index(loss)))

    figure = _grid(sweep, f"{rows[0].panel}\n{rows[0].symbol}", draw)
    scale_axis(figure.axes[0], rows[0])
    handles = _loss_handles(sweep)
    if len(curves) > 1:
        handles += [Line2D([], [], color="grey", linestyle=one.line, label=one.label) for one in curves]
    return _legend(figure, [*handles, *_zero_handles(sweep)])


def spectra_grid(sweep: Sweep, loss: str, fits: Fits) -> Figure:
    """ω_j of the runs trained with `loss`, measured and, as lines, the closed form of the central path laid along."""

    def draw(axes: Axes, sweep: Sweep, cells: list[Cell]) -> None:
        for cell in cells:
            if cell.place[2] == loss:
                draw_spectra(axes, fits[cell.place])
                draw_zero_error(axes, cell)

    figure = _grid(sweep, f"ω: class means in units of\nthe noise within classes, {loss}", draw)
    set_log(figure.axes[0])
    label_ticks(figure.axes[0].yaxis)
    return _legend(figure, [*spectrum_handles(fits, loss), Line2D([], [], color=RED, label="zero error")])


def path_fit_grid(sweep: Sweep, fits: Fits) -> Figure:
    """By what factor the closed form misses the ω_j, epoch by epoch: root mean square over modes of log residuals."""

    colours = group_colours(sweep.losses)

    def draw(axes: Axes, sweep: Sweep, cells: list[Cell]) -> None:
        for cell in cells:
            loss = cell.place[2]
            draw_residuals(axes, fits[cell.place], colours[loss])
            draw_zero_error(axes, cell, _line(sweep.losses.index(loss)))

    figure = _grid(sweep, "closed form's miss: rms over j of\nlog (measured ω_j / theory)", draw)
    figure.axes[0].set_ylim(bottom=0)
    label_ticks(figure.axes[0].yaxis, share=True)
    return _legend(figure, [*_loss_handles(sweep), *_zero_handles(sweep)])


def _figures(sweep: Sweep) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """(name, caption, what draws it)."""
    recorded = {name for cell in sweep.cells.values() for run in cell.best for name in run.records[-1]}
    if any(_tested(cell) or not cell.complete_rates for cell in sweep.cells.values()):
        caption = "Which learning rate won: test error at the last epoch; the circle is the choice."
        yield "learning_rates", caption, partial(rates_grid, sweep)
    if has_regimes(sweep):
        yield "regimes", CAPTION, partial(regimes_grid, sweep)
    for panel, rows in panels().items():
        if not recorded & {one.name for one in _curves(rows)}:
            continue
        if panel == DECOMPOSITION:
            for loss in sweep.losses:
                caption = f"HPD22 Figure 2, trained with {loss}: the MSE loss on train features and its parts."
                yield f"decomposition_{_file_name(loss)}", caption, partial(decomposition_grid, sweep, loss)
        else:
            name = re.sub(r"[^a-z0-9]+", "_", panel.lower())
            yield name, f"{panel}. Each cell at its best learning rate.", partial(panel_grid, sweep, rows)
    fits = {place: fits_of(cell.best) for place, cell in sweep.cells.items()}
    for loss in sweep.losses:
        if any(found for place, found in fits.items() if place[2] == loss):
            caption = (
                f"SNR spectra, trained with {loss}: points measured, lines the closed form fitted from zero error on."
            )
            yield f"spectra_{_file_name(loss)}", caption, partial(spectra_grid, sweep, loss, fits)
    if any(one.fit is not None for found in fits.values() for one in found):
        caption = "How far the closed form misses the spectrum, in percent of an ω."
        yield "path_fit", caption, partial(path_fit_grid, sweep, fits)


def _file_name(loss: str) -> str:
    """The loss, and its setting where there are several, in letters of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", loss)


def _curves(rows: Sequence[Quantity]) -> list[Curve]:
    """One number: on both splits; several: on train features."""
    return curves_of(rows, BOTH if len(rows) == 1 else TRAIN, "grey")


def _draw_runs(axes: Axes, cell: Cell, curves: Sequence[Curve], red: Line) -> None:
    """The curves at the best rate, mean and band over its seeds, and their zero error."""
    for curve in curves:
        draw_band(axes, cell.best, curve)
    draw_zero_error(axes, cell, red)


def draw_zero_error(axes: Axes, cell: Cell, line: Line = "-") -> None:
    """The red line at the mean of the zero-error epochs of the seeds that reached one, and how many of how many did."""
    reached = [run.zero_error_epoch for run in cell.best if run.zero_error_epoch is not None]
    if reached:
        mean = statistics.fmean(reached)
        axes.axvline(mean, color=RED, linewidth=1, linestyle=line)
        top = 0.98 if line == "-" else 0.9  # of two losses in one panel, each has a place
        said = f"{len(reached)} of {len(cell.best)} seeds" if len(cell.best) > 1 else "1 seed"
        place = axes.get_xaxis_transform()
        axes.text(mean, top, said, color=RED, fontsize=5, rotation=90, ha="right", va="top", transform=place)


def _tested(cell: Cell) -> dict[float, float]:
    """The complete rates that are stated, and their test errors, as far as there are test examples."""
    return {rate: error for rate, error in cell.complete_rates.items() if math.isfinite(rate + error)}


def _so_far(cell: Cell) -> dict[float, float]:
    """The rates that are not complete and of which none diverged or failed, and their test errors so far."""
    going = {rate: runs for rate, runs in cell.rates.items() if rate not in cell.complete_rates and not ended(runs)}
    errors = {rate: last_test_error(runs) for rate, runs in going.items()}
    return {rate: error for rate, error in errors.items() if math.isfinite(rate + error)}


def _draw_rates(axes: Axes, sweep: Sweep, cells: list[Cell]) -> None:
    colours = group_colours(sweep.losses)
    for cell in cells:
        colour = colours[cell.place[2]]
        tested = _tested(cell)
        axes.plot(list(tested), list(tested.values()), ".-", color=colour, linewidth=1)
        so_far = _so_far(cell)
        axes.plot(list(so_far), list(so_far.values()), "x", color=colour, markersize=5)
        for rate in cell.rates.keys() - cell.complete_rates.keys() - so_far.keys():
            axes.plot([rate], [0.97], "x", color=colour, transform=axes.get_xaxis_transform(), markersize=5)
        if cell.best_rate in tested:
            axes.plot([cell.best_rate], [tested[cell.best_rate]], "o", color=colour, fillstyle="none", markersize=9)


def _grid(sweep: Sweep, label: str, draw: Callable[[Axes, Sweep, list[Cell]], None], across: str = "epoch") -> Figure:
    """Panels of one scale, so that cells compare: families down, datasets across, as the paper prints them.

    Each panel names its network, where the row does not. The legend stands above, see `_legend`.
    """
    rows, columns = sweep.rows, sweep.datasets
    figure, grid = pyplot.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for i, (row, architectures) in enumerate(rows.items()):
        grid[i][0].set_ylabel(row, fontsize=10)
        for j, dataset in enumerate(columns):
            cells = [one for place, one in sweep.cells.items() if place[0] == dataset and place[1] in architectures]
            _draw_panel(grid[i][j], sweep, cells, row, draw)
    for axes, dataset in zip(grid[0], columns, strict=True):
        axes.set_title(DATASETS.get(dataset, dataset), fontsize=10, y=1, pad=3)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(label, fontsize=9, multialignment="center")
    return figure


def _draw_panel(axes: Axes, sweep: Sweep, cells: list[Cell], row: str, draw: Callable[..., None]) -> None:
    draw(axes, sweep, cells)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.tick_params(labelsize=7)
    named = ", ".join(dict.fromkeys(cell.place[1] for cell in cells if cell.place[1] != row))
    axes.set_title(named, loc="right", fontsize=6.5, color="0.4", pad=2)
    if not cells:
        axes.set_facecolor("0.96")  # no such cell


def _line(place: int) -> Line:
    return LINES[place % len(LINES)]


def _loss_handles(sweep: Sweep) -> list[Line2D]:
    return [Line2D([], [], color=colour, label=loss) for loss, colour in group_colours(sweep.losses).items()]


def _zero_handles(sweep: Sweep) -> list[Line2D]:
    lines = ((loss, _line(place)) for place, loss in enumerate(sweep.losses))
    return [Line2D([], [], color=RED, linestyle=line, label=f"zero error, {loss}") for loss, line in lines]


def _legend(figure: Figure, handles: list[Line2D]) -> Figure:
    """The legend above, and the figure's size and margins by its parts."""
    across, label = figure.texts  # of `_grid`
    engine = GridLayout(label, across, handles)
    for axes in figure.axes:  # a log axis has hundreds of them, which cost more than all curves
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_locator(NullLocator())
    engine.resize(figure)
    figure.set_layout_engine(engine)
    return figure


def _sized(figure: Figure, width: float | None) -> Figure:
    engine = figure.get_layout_engine()
    if width is not None and isinstance(engine, GridLayout):
        engine.resize(figure, width)
    elif width is not None:
        figure.set_size_inches(width, figure.get_figheight() * width / figure.get_figwidth())
    return figure
