"""The figures of a sweep, each a grid of panels: datasets across, networks down; vector PDF and PNG of each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ncexp.measure import Comparison, compare_with_path
from ncexp.record.quantities import BOTH, DECOMPOSITION, TRAIN, Quantity, panels
from ncexp.report.curves import (
    Curve,
    curves_of,
    draw_curve,
    draw_residuals,
    draw_spectra,
    draw_zero_error,
    spectrum_handles,
    spectrum_series,
)
from ncexp.report.han2022 import DATASETS, Cell, Place, Sweep
from ncexp.report.panels import Panel, draw_panels
from ncexp.report.style import (
    LINES,
    RED,
    Line,
    axis_label,
    group_colours,
    label_ticks,
    scale_axis,
    set_log,
)

#: Cell → the comparison of each of its seeds with the central path.
Fits = Mapping[Place, Sequence[Comparison]]
#: Draws one panel of cells; returns what stands above it.
Draw = Callable[..., str | None]
REGIMES = (
    "The SNR spectrum ω_j in each regime: points, measured (first seed); lines, the closed form from zero error on. "
    "Above each panel, over the seeds: rms error of an ω, and what the closed form explains of the differences between "
    "modes (below 0: growth common to all fits better)."
)


def figures_of(sweep: Sweep) -> Iterator[tuple[str, str, Callable[[float | None], Figure]]]:
    """(name, caption, what draws it, of a width)."""
    recorded = {name for cell in sweep.cells.values() for run in cell.kept for name in run.records[-1]}
    if any(_tested(cell) or not cell.complete_rates for cell in sweep.cells.values()):
        caption = "Which learning rate won: test error at the last epoch; the circle is the choice."
        yield "learning_rates", caption, partial(rates_grid, sweep)
    fits = {place: _compared(cell) for place, cell in sweep.cells.items()}
    if any(run.choices.get("regime", "plain") != "plain" for run in sweep.runs):
        yield "regimes", REGIMES, partial(regimes_grid, sweep, fits)
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
    for loss in sweep.losses:
        if any(found for place, found in fits.items() if place[2] == loss):
            points = f"SNR spectra, trained with {loss}: points measured"
            caption = f"{points}, lines the closed form fitted from zero error on."
            yield f"spectra_{_file_name(loss)}", caption, partial(spectra_grid, sweep, loss, fits)
    if any(one.fit is not None for found in fits.values() for one in found):
        caption = "How far the closed form misses the spectrum, in percent of an ω."
        yield "path_fit", caption, partial(path_fit_grid, sweep, fits)


def rates_grid(sweep: Sweep, width: float | None = None) -> Figure:
    """Test error at the last epoch against learning rate, mean over seeds, both axes logarithmic."""
    colours = group_colours(sweep.losses)

    def draw(axes: Axes, cells: list[Cell]) -> None:
        for cell in cells:
            colour, tested, so_far = colours[cell.place[2]], _tested(cell), _so_far(cell)
            axes.plot(list(tested), list(tested.values()), ".-", color=colour, linewidth=1)
            axes.plot(list(so_far), list(so_far.values()), "x", color=colour, markersize=5)
            for rate in cell.rates.keys() - cell.complete_rates.keys() - so_far.keys():
                axes.plot([rate], [0.97], "x", color=colour, transform=axes.get_xaxis_transform(), markersize=5)
            if cell.best_rate in tested:
                axes.plot([cell.best_rate], [tested[cell.best_rate]], "o", color=colour, fillstyle="none", markersize=9)

    def scale(axes: Axes) -> None:
        axes.set_xscale("log")
        label_ticks(axes.xaxis)
        errors = [
            error for cell in sweep.cells.values() for error in [*_tested(cell).values(), *_so_far(cell).values()]
        ]
        if not errors:
            axes.set_yticks([])
        elif min(errors) > 0:
            set_log(axes)
        label_ticks(axes.yaxis, share=True)

    handles = _loss_handles(sweep)
    handles.append(Line2D([], [], color="grey", marker="o", fillstyle="none", linestyle="", label="chosen"))
    handles.append(Line2D([], [], color="grey", marker="x", linestyle="", label="not done; diverged: at the top"))
    return _paper_grid(sweep, "test error at the last epoch", draw, scale, handles, width, "learning rate")


def decomposition_grid(sweep: Sweep, loss: str, width: float | None = None) -> Figure:
    """HPD22 Figure 2: L, L_NC1, L_NC2/3 and L_LS⊥ of the runs trained with `loss`, a colour for each."""
    rows = panels()[DECOMPOSITION]
    curves = curves_of(rows, TRAIN, group_colours(sweep.losses)[loss])
    chosen = _trained_with(sweep, loss)

    def draw(axes: Axes, cells: list[Cell]) -> None:
        for cell in cells:
            _draw_runs(axes, cell, curves, "-")

    label = axis_label(rows[0], [run for cell in chosen.cells.values() for run in cell.kept])
    handles = [*(curve.handle for curve in curves), _zero_handle()]
    return _paper_grid(chosen, f"{label}, trained with {loss}", draw, partial(scale_axis, row=rows[0]), handles, width)


def panel_grid(sweep: Sweep, rows: Sequence[Quantity], width: float | None = None) -> Figure:
    """A colour for each loss, a line style for each curve; red: the first epoch of zero error, in the loss's style."""
    colours, curves = group_colours(sweep.losses), _curves(rows)

    def draw(axes: Axes, cells: list[Cell]) -> None:
        for cell in cells:
            loss = cell.place[2]
            _draw_runs(axes, cell, [replace(one, colour=colours[loss]) for one in curves], _line(sweep, loss))

    handles = _loss_handles(sweep) + ([curve.handle for curve in curves] if len(curves) > 1 else [])
    label, scale = f"{rows[0].panel}\n{rows[0].symbol}", partial(scale_axis, row=rows[0])
    return _paper_grid(sweep, label, draw, scale, [*handles, *_zero_handles(sweep)], width)


def spectra_grid(sweep: Sweep, loss: str, fits: Fits, width: float | None = None) -> Figure:
    """ω_j of the runs trained with `loss`, measured and, as lines, the closed form of the central path laid along."""

    def draw(axes: Axes, cells: list[Cell]) -> None:
        for cell in cells:
            draw_spectra(axes, *spectrum_series(fits[cell.place]))
            draw_zero_error(axes, cell.kept)

    label = f"ω: class means in units of\nthe noise within classes, {loss}"
    handles = [*spectrum_handles(_modes(found for place, found in fits.items() if place[2] == loss)), _zero_handle()]
    return _paper_grid(_trained_with(sweep, loss), label, draw, _scale_spectrum, handles, width)


def path_fit_grid(sweep: Sweep, fits: Fits, width: float | None = None) -> Figure:
    """By what factor the closed form misses the ω_j, epoch by epoch: root mean square over modes of log residuals."""
    colours = group_colours(sweep.losses)

    def draw(axes: Axes, cells: list[Cell]) -> None:
        for cell in cells:
            draw_residuals(axes, fits[cell.place], colours[cell.place[2]])
            draw_zero_error(axes, cell.kept, _line(sweep, cell.place[2]))

    def scale(axes: Axes) -> None:
        axes.set_ylim(bottom=0)
        label_ticks(axes.yaxis, share=True)

    label = "closed form's miss: rms over j of\nlog (measured ω_j / theory)"
    return _paper_grid(sweep, label, draw, scale, [*_loss_handles(sweep), *_zero_handles(sweep)], width)


def regimes_grid(sweep: Sweep, fits: Fits, width: float | None = None) -> Figure:
    """A column for each loss and regime, a row for each dataset and network; measured ω_j and the closed form."""
    places = list(dict.fromkeys(place[:2] for place in sweep.cells))

    def draw(axes: Axes, cells: list[Cell]) -> str | None:
        for cell in cells:
            draw_spectra(axes, *spectrum_series(fits[cell.place][:1]))
            draw_zero_error(axes, cell.kept[:1])
        return _fits_in_words(fits[cells[0].place], len(cells[0].kept)) if cells else None

    panels_of = [
        [[cell for cell in [sweep.cells.get((*place, loss))] if cell] for loss in sweep.losses] for place in places
    ]
    handles = [*spectrum_handles(_modes(fits.values())), _zero_handle()]
    down = [", ".join(place) for place in places]
    return _grid(down, sweep.losses, panels_of, "ω_j", draw, _scale_spectrum, handles, width, sharey="row")


def _paper_grid(
    sweep: Sweep,
    label: str,
    draw: Draw,
    scale: Callable[[Axes], None],
    handles: Sequence[Line2D],
    width: float | None,
    across: str = "epoch",
) -> Figure:
    """Families down, datasets across, as the paper prints them; a panel names its network, where the row does not."""

    def draw_named(axes: Axes, cells: list[Cell]) -> str:
        draw(axes, cells)
        return ", ".join(dict.fromkeys(cell.place[1] for cell in cells if cell.place[1] not in rows))

    rows = sweep.rows
    cells = [
        [
            [cell for place, cell in sweep.cells.items() if place[0] == dataset and place[1] in architectures]
            for dataset in sweep.datasets
        ]
        for architectures in rows.values()
    ]
    titles = [DATASETS.get(dataset, dataset) for dataset in sweep.datasets]
    return _grid([*rows], titles, cells, label, draw_named, scale, handles, width, across)


def _grid(
    down: Sequence[str],
    across: Sequence[str],
    cells: Sequence[Sequence[list[Cell]]],
    label: str,
    draw: Draw,
    scale: Callable[[Axes], None],
    handles: Sequence[Line2D],
    width: float | None,
    of_axis: str = "epoch",
    sharey: Literal["all", "row"] = "all",
) -> Figure:
    """Panels of one scale, so that they compare; grey where there is no such cell."""
    panels = [[Panel(partial(draw, cells=one) if one else None, scale) for one in of_row] for of_row in cells]
    return draw_panels(down, across, panels, handles, width, label=label, of_axis=of_axis, sharey=sharey)


def _scale_spectrum(axes: Axes) -> None:
    set_log(axes)
    label_ticks(axes.yaxis)


def _trained_with(sweep: Sweep, loss: str) -> Sweep:
    return replace(sweep, cells={place: cell for place, cell in sweep.cells.items() if place[2] == loss})


def _compared(cell: Cell) -> list[Comparison]:
    return [found for run in cell.kept if (found := compare_with_path(run)) is not None]


def _modes(found: Iterable[Sequence[Comparison]]) -> list[int]:
    return max((comparisons[0].modes for comparisons in found if comparisons), key=len, default=[])


def _file_name(loss: str) -> str:
    """The loss, and its setting where there are several, in letters of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", loss)


def _curves(rows: Sequence[Quantity]) -> list[Curve]:
    """One number: on both splits; several: on train features."""
    return curves_of(rows, BOTH if len(rows) == 1 else TRAIN, "grey")


def _draw_runs(axes: Axes, cell: Cell, curves: Sequence[Curve], red: Line) -> None:
    """The curves at the best rate, mean and band over its seeds, and their zero error."""
    for curve in curves:
        draw_curve(axes, cell.kept, curve)
    draw_zero_error(axes, cell.kept, red)


def _tested(cell: Cell) -> dict[float, float]:
    """The complete rates that are stated, and their test errors, as far as there are test examples."""
    return {rate: error for rate, error in cell.complete_rates.items() if math.isfinite(rate + error)}


def _so_far(cell: Cell) -> dict[float, float]:
    """The rates that are not complete and of which none diverged or failed, and their test errors so far."""
    going = {rate: group.error for rate, group in cell.rates.items() if not (group.completed or group.ended_badly)}
    return {rate: error for rate, error in going.items() if math.isfinite(rate + error)}


def _fits_in_words(compared: Sequence[Comparison], seeds: int) -> str:
    """``rms 0.5 to 0.7 %, explains 90 %``: of the seeds' fits; or why there is none."""
    fits = [one.fit for one in compared if one.fit is not None]
    if not fits:
        return compared[0].reason if compared else "no spectra"
    spreads = [100 * fit.explained_spread for fit in fits if not math.isnan(fit.explained_spread)]
    explained = f", explains {_range(spreads, ',.0f')} %" if spreads else ""
    counted = f", {len(fits)} of {seeds} seeds" if len(fits) < seeds else ""
    return f"rms {_range([100 * fit.rms for fit in fits], '.3g')} %{explained}{counted}"


def _range(values: list[float], places: str) -> str:
    low, high = (f"{value:{places}}".replace("-", "−") for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _line(sweep: Sweep, loss: str) -> Line:
    """The style of a loss's red line."""
    return LINES[sweep.losses.index(loss) % len(LINES)]


def _loss_handles(sweep: Sweep) -> list[Line2D]:
    return [Line2D([], [], color=colour, label=loss) for loss, colour in group_colours(sweep.losses).items()]


def _zero_handle(label: str = "zero error", line: Line = "-") -> Line2D:
    return Line2D([], [], color=RED, linestyle=line, label=label)


def _zero_handles(sweep: Sweep) -> list[Line2D]:
    return [_zero_handle(f"zero error, {loss}", _line(sweep, loss)) for loss in sweep.losses]
