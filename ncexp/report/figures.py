"""The paper's figures of one run, drawn from its records alone, and that of a simulation.

NC1 to NC4 (PHD20) and the MSE decomposition (HPD22 Figure 2) are the catalogue's panels; the central path (HPD22
section 3) is measured spectra beside the closed form laid along them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncexp.measure import Comparison
from ncexp.record import Record, SavedRun, column
from ncexp.record.quantities import (
    BOTH,
    DECOMPOSITION,
    ERROR,
    NC1,
    NC2_ANGLES,
    NC2_MAXIMAL,
    NC2_NORMS,
    NC3,
    NC4,
    TRAIN,
    find,
    panels,
)
from ncexp.record.quantities_of_targets import ANGLE, EXPLAINED, NRC1, NRC2, NRC3
from ncexp.report.curves import (
    Series,
    curves_of,
    draw_curve,
    draw_spectra,
    draw_zero_error,
    spectrum_handles,
    spectrum_series,
)
from ncexp.report.style import (
    COLOURS,
    axis_label,
    finish,
    group_colours,
    label_ticks,
    mode_colours,
    save,
    scale_axis,
    set_log,
)

COLLAPSE = (NC1, NC2_NORMS, NC2_ANGLES, NC2_MAXIMAL, NC3, NC4)
REGRESSION_COLLAPSE = (NRC1, NRC2, NRC3, EXPLAINED, ANGLE, ERROR)
SPECTRUM = "ω: class means in units of the noise within classes"
#: The losses of the path, and what collapses beside them: the first number of each panel, its colour and its mark.
LOSSES = ("loss_ls", "loss_nc1", "loss_nc23")
MARKS = {
    NC1: (COLOURS["loss_nc1"], "."),
    NC2_NORMS: (COLOURS["loss_nc23"], "x"),
    NC2_MAXIMAL: (COLOURS["loss_nc23"], "+"),
    NC3: (COLOURS["loss_nc23"], "."),
    NC4: (COLOURS["nc4"], "."),
}


def draw_figures(run: SavedRun, directory: Path, comparison: Comparison | None = None) -> list[Path]:
    """The figures of a training in `directory`, as far as its records hold their quantities; returns their paths.

    neural_collapse.png, of a regression regression_collapse.png, mse_decomposition.png; with a comparison with the
    central path, central_path.png where an epoch has a spectrum, path_portrait.png where the closed form was fitted.
    Beside each PNG lies the same as PDF.
    """
    directory.mkdir(exist_ok=True)
    recorded = {name for record in run.records for name in record}
    drawn = []
    if _first(NC1) in recorded:
        drawn.append(_save(neural_collapse_figure(run), directory, "neural_collapse"))
    if _first(NRC3) in recorded:
        drawn.append(_save(neural_collapse_figure(run, REGRESSION_COLLAPSE), directory, "regression_collapse"))
    if _first(DECOMPOSITION) in recorded:
        drawn.append(_save(decomposition_figure(run), directory, "mse_decomposition"))
    if comparison is not None and bool(comparison.spectra.isfinite().any()):
        drawn.append(_save(central_path_figure(run, comparison), directory, "central_path"))
    if comparison is not None and comparison.fit is not None:
        drawn.append(_save(training_portrait(run, comparison), directory, "path_portrait"))
    return drawn


def draw_simulation(run: SavedRun, directory: Path) -> Path:
    """The figure of a simulation, path_portrait.png in `directory`."""
    directory.mkdir(exist_ok=True)
    return _save(simulation_portrait(run), directory, "path_portrait")


def _save(figure: Figure, directory: Path, name: str) -> Path:
    """As PNG, for the screen and MLflow's page, and as PDF, for a paper; returns the PNG."""
    return save(figure, directory / f"{name}.png", directory / f"{name}.pdf")


def neural_collapse_figure(run: SavedRun, shown: Sequence[str] = COLLAPSE) -> Figure:
    """NC1 to NC4 against epoch, train (solid) and test (dashed), class means and classifier in one panel; shown: the
    six panels.
    """
    figure, grid = pyplot.subplots(2, 3, figsize=(12, 6.4), layout="constrained", sharex=True)
    for axes, panel in zip(grid.flat, shown, strict=True):
        _draw_panel(axes, run, panel)
        axes.set_title(panel)
    figure.suptitle(f"{shown_name(run)}     {zero_error_note(run)}", fontsize=11)
    return figure


def decomposition_figure(run: SavedRun) -> Figure:
    """HPD22 Figure 2's panel: the MSE loss and its three parts against epoch, log axis, on train features."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    _draw_panel(axes, run, DECOMPOSITION, splits=TRAIN)
    terms = "L = L_LS + L_LS⊥" if run.is_regression else "L = L_NC1 + L_NC2/3 + L_LS⊥"
    heading = f"{shown_name(run)}\n{terms} on train features\n{zero_error_note(run)}"
    figure.suptitle(heading, fontsize=9)
    return figure


def _draw_panel(axes: Axes, run: SavedRun, panel: str, splits: Sequence[str] = BOTH) -> None:
    """One of the catalogue's panels against epoch."""
    rows = panels()[panel]
    loss = run.cell[2]
    for curve in curves_of(rows, splits, group_colours([loss])[loss]):
        draw_curve(axes, [run], curve, f".{curve.line}")
    axes.set(xlabel="epoch", ylabel=axis_label(rows[0], [run]))
    scale_axis(axes, rows[0])
    draw_zero_error(axes, [run])
    finish(axes)


def central_path_figure(run: SavedRun, comparison: Comparison) -> Figure:
    """ω_j(epoch): measured as points, the fitted closed form as lines; below, the residual of every mode."""
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(8.4, 7.2), layout="constrained", sharex=True, height_ratios=[2.2, 1]
    )
    draw_spectra(top, *spectrum_series([comparison]), size=6)
    if fit := comparison.fit:
        bottom.axhline(0, color="black", linewidth=0.8)
        for place, colour in enumerate(mode_colours(len(comparison.modes))):
            bottom.plot(fit.epochs.numpy(), fit.residuals[:, place].numpy(), ".-", color=colour, linewidth=0.8)
    set_log(top)
    top.set_ylabel(SPECTRUM)
    label_ticks(top.yaxis)
    bottom.set(xlabel="epoch", ylabel="log (measured / theory)")
    for axes in (top, bottom):
        draw_zero_error(axes, [run])
    finish(bottom)
    finish(top, columns=2, place="lower right", handles=spectrum_handles(comparison.modes))
    heading = f"{shown_name(run)}     {zero_error_note(run)}\nSNR spectrum of the train features, "
    figure.suptitle(heading + comparison.sentence().replace("; ", ";\n"), fontsize=10)
    return figure


def training_portrait(run: SavedRun, comparison: Comparison) -> Figure:
    """The central path at a glance: against epoch, measured points, and the closed form from its first epoch on."""
    assert comparison.fit is not None
    losses = comparison.predicted_losses
    epochs = comparison.fit.epochs.numpy()
    theory = (epochs, comparison.fit.predicted.numpy())
    predicted = None if losses is None else (epochs, losses.numpy().T)
    figure = _portrait(run.records, "epoch", comparison.modes, theory, predicted)
    marks = "points: measured; full lines: theory"
    figure.suptitle(f"{shown_name(run)}     {marks}; {zero_error_note(run)}\n{comparison.sentence()}", fontsize=11)
    for axes in figure.axes:
        draw_zero_error(axes, [run])
    return figure


def simulation_portrait(run: SavedRun) -> Figure:
    """The same of a simulation: against time on a log axis, simulated points, and the closed form from the start."""
    later = run.records[1:]  # the first is t = 0
    modes = [j for j in range(1, len(later[0])) if f"train/theory/snr_{j}" in later[0]]
    theory = _series(later, "train/path/time", [f"train/theory/snr_{j}" for j in modes])
    losses = _series(later, "train/path/time", [f"train/theory/{name}" for name in LOSSES])
    figure = _portrait(later, "train/path/time", modes, theory, losses)
    marks = "points: flow simulated on the features; full lines: closed form from the same start"
    figure.suptitle(f"{shown_name(run)}     {marks}", fontsize=11)
    for axes in figure.axes:
        axes.set(xscale="log", xlabel="time t of the gradient flow")
        label_ticks(axes.xaxis)
    return figure


def _portrait(records: Sequence[Record], axis: str, modes: list[int], theory: Series, losses: Series | None) -> Figure:
    """ω_j, the losses and NC1 to NC4. theory: ω_j (T, K); losses: L_LS, L_NC1 and L_NC2/3 (T, 3) of the closed form."""
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 5.2), layout="constrained", sharex=True)
    draw_spectra(left, [_series(records, axis, [f"train/path/snr_{j}" for j in modes])], [theory], size=6)
    left.set(title="SNR spectrum", ylabel=SPECTRUM)
    for place, loss in enumerate(LOSSES):
        colour = COLOURS[{"loss_ls": "loss"}.get(loss, loss)]
        _mark(middle, records, axis, f"train/path/{loss}", ".", colour)
        if losses is not None:
            middle.plot(losses[0], losses[1][:, place], color=colour, linewidth=1)
    middle.set(title="Loss of the best last layer", ylabel="½ squared error, λ = 0")
    for panel, (colour, mark) in MARKS.items():
        _mark(right, records, axis, _first(panel), f"{mark}:", colour)
    right.set(title="Neural collapse", ylabel="0 at collapse (exact zeros are not drawn)")
    for axes in (left, middle, right):
        set_log(axes)
        axes.set_xlabel(axis)
        label_ticks(axes.yaxis)
    finish(left, columns=2, handles=spectrum_handles(modes))
    finish(middle)
    finish(right)
    return figure


def _mark(axes: Axes, records: Sequence[Record], axis: str, name: str, mark: str, colour: str) -> None:
    """One number, on a log axis, which has no room for exact zeros; nothing of what is undefined throughout."""
    row, values = find(name), numpy.array(column(records, name))
    values[~(values > 0)] = numpy.nan
    if row is not None and numpy.isfinite(values).any():
        axes.plot(column(records, axis), values, mark, color=colour, label=row.short.partition(", λ")[0], linewidth=0.8)


def _series(records: Sequence[Record], axis: str, names: Sequence[str]) -> Series:
    """Positions (T,) and these numbers (T, K)."""
    return numpy.array(column(records, axis)), numpy.array([column(records, name) for name in names]).T


def _first(panel: str) -> str:
    """The number that stands first in one of the catalogue's panels, on train features."""
    return f"train/{panels()[panel][0].name}"


def shown_name(run: SavedRun) -> str:
    """The run's name in a figure: that of a folder may be any, and matplotlib reads $ as mathematics."""
    return run.name.replace("$", r"\$")


def zero_error_note(run: SavedRun) -> str:
    """What the red line of a figure of this run stands for, or why there is none."""
    if run.zero_error_epoch is None:
        return "train error never ≤ 0.1 %: no red line"
    return f"red line: first epoch with train error ≤ 0.1 %, {run.zero_error_epoch}"
