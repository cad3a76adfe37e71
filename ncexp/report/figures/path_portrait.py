"""The central path at a glance: ω_j, the losses and NC1 to NC4 in one figure, of a simulation or of a training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ncexp.measure import Comparison
from ncexp.record import Record, SavedRun, column
from ncexp.record.quantities import NC1, NC2_MAXIMAL, NC2_NORMS, NC3, NC4, find, leading
from ncexp.report.style import (
    COLOURS,
    draw_zero_line,
    finish,
    label_ticks,
    mode_colours,
    omega,
    set_log,
    shown_name,
    zero_error_note,
)

LOSSES = {"loss_ls": COLOURS["loss"], "loss_nc1": COLOURS["loss_nc1"], "loss_nc23": COLOURS["loss_nc23"]}
#: Panel, whose leading quantity is drawn → colour, that of its part of the loss, and mark.
COLLAPSE = {
    NC1: (COLOURS["loss_nc1"], "."),
    NC2_NORMS: (COLOURS["loss_nc23"], "x"),
    NC2_MAXIMAL: (COLOURS["loss_nc23"], "+"),
    NC3: (COLOURS["loss_nc23"], "."),
    NC4: (COLOURS["nc4"], "."),
}


@dataclass(frozen=True)
class Theory:
    """The closed form to draw at `positions` (T,) of the horizontal axis.

    spectra: ω_j (T, K), with their numbers j in `modes`; losses: L_LS, L_NC1 and L_NC2/3 (3, T), or None.
    """

    positions: Tensor
    modes: list[int]
    spectra: Tensor
    losses: Tensor | None


def training_portrait(run: SavedRun, comparison: Comparison) -> Figure:
    """Against epoch: measured points, and the closed form laid along them from its first epoch on."""
    assert comparison.fit is not None
    fit = comparison.fit
    theory = Theory(fit.epochs, comparison.modes, fit.predicted, comparison.predicted_losses)
    heading = (
        f"{shown_name(run)}     points: measured; full lines: theory; {zero_error_note(run)}\n{comparison.sentence()}"
    )
    figure = _portrait(run.records, "epoch", theory, heading)
    for axes in figure.axes:
        draw_zero_line(axes, run)
    return figure


def simulation_portrait(run: SavedRun) -> Figure:
    """Against time on a log axis: simulated points, and the closed form from the same start."""
    later = run.records[1:]  # the first is t = 0
    modes = [j for j in range(1, len(later[0])) if f"train/theory/snr_{j}" in later[0]]
    spectra = torch.tensor([[record[f"train/theory/snr_{j}"] for j in modes] for record in later])
    losses = torch.tensor([column(later, f"train/theory/{name}") for name in LOSSES])
    theory = Theory(torch.tensor(column(later, "train/path/time")), modes, spectra, losses)
    heading = (
        f"{shown_name(run)}     points: flow simulated on the features; full lines: closed form from the same start"
    )
    figure = _portrait(later, "train/path/time", theory, heading)
    for axes in figure.axes:
        axes.set(xscale="log", xlabel="time t of the gradient flow")
        label_ticks(axes.xaxis)
    return figure


def _portrait(records: list[Record], axis: str, theory: Theory, title: str) -> Figure:
    figure, (spectrum, losses, collapse) = pyplot.subplots(1, 3, figsize=(15, 5.2), layout="constrained", sharex=True)
    positions = column(records, axis)
    _draw_spectrum(spectrum, records, positions, theory)
    _draw_losses(losses, records, positions, theory)
    _draw_collapse(collapse, records, positions)
    for axes in (spectrum, losses, collapse):
        set_log(axes)
        axes.set_xlabel(axis)
        label_ticks(axes.yaxis)
        finish(axes, columns=2 if axes is spectrum else 1)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_spectrum(axes: Axes, records: list[Record], positions: list[float], theory: Theory) -> None:
    for place, (mode, colour) in enumerate(zip(theory.modes, mode_colours(len(theory.modes)), strict=True)):
        axes.plot(positions, column(records, f"train/path/snr_{mode}"), ".", color=colour, label=omega(mode))
        axes.plot(theory.positions.numpy(), theory.spectra[:, place].numpy(), color=colour, linewidth=1)
    axes.set(title="SNR spectrum", ylabel="ω: class means in units of the noise within classes")


def _draw_losses(axes: Axes, records: list[Record], positions: list[float], theory: Theory) -> None:
    for place, (loss, colour) in enumerate(LOSSES.items()):
        name = f"train/path/{loss}"
        axes.plot(positions, column(records, name), ".", color=colour, label=_short(name).partition(",")[0])
        if theory.losses is not None:
            axes.plot(theory.positions.numpy(), theory.losses[place].numpy(), color=colour, linewidth=1)
    axes.set(title="Loss of the best last layer", ylabel="½ squared error, λ = 0")


def _draw_collapse(axes: Axes, records: list[Record], positions: list[float]) -> None:
    """NC1 to NC4; a log axis has no room for exact zeros."""
    for panel, (colour, mark) in COLLAPSE.items():
        name = leading(panel).on()
        values = numpy.asarray(column(records, name))
        values = numpy.where(values > 0, values, numpy.nan)
        if not numpy.isnan(values).all():
            axes.plot(positions, values, mark, color=colour, label=_short(name))
            axes.plot(positions, values, ":", color=colour, linewidth=0.8)
    axes.set(title="Neural collapse", ylabel="0 at collapse (exact zeros are not drawn)")


def _short(name: str) -> str:
    row = find(name)
    assert row is not None
    return row.short
