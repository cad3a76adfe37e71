"""The central path at a glance: ω_j, the losses and NC1 to NC4 in one figure, of a simulation or of a training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ncexp.figures.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, mode_colours, omega, plain_ticks
from ncexp.journal import Record, column
from ncexp.summary import zero_error_epoch
from ncexp.theory import Comparison

LOSSES = {"L_LS": ("path/loss_ls", BLACK), "L_NC1": ("path/loss_nc1", BLUE), "L_NC2/3": ("path/loss_nc23", ORANGE)}
COLLAPSE = {
    "NC1: tr(Σ_W Σ_B⁺)/C": ("train/nc1_trace", BLUE),
    "NC2: equal norms": ("train/equinorm_means", ORANGE),
    "NC2: maximal angle": ("train/maximal_angle_means", GREEN),
    "NC3: self-duality": ("train/self_duality", PURPLE),
    "NC4: nearest class center": ("train/nearest_class_center_mismatch", BLACK),
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


def training_portrait(records: list[Record], comparison: Comparison, title: str) -> Figure:
    """Against epoch: measured points, and the closed form laid along them from its first epoch on."""
    assert comparison.fit is not None
    fit = comparison.fit
    theory = Theory(fit.epochs, comparison.modes, fit.predicted, comparison.predicted_losses)
    figure = _portrait(
        records, "epoch", theory, f"{title}     points: measured; full lines: theory\n{comparison.sentence()}"
    )
    if (zero := zero_error_epoch(records)) is not None:
        for axes in figure.axes:
            axes.axvline(zero, color=RED, linewidth=1.2)
            axes.set_xlabel("epoch (red: first with train error ≤ 0.1 %)")
    return figure


def simulation_portrait(records: list[Record], title: str) -> Figure:
    """Against time on a log axis: simulated points, and the closed form from the same start."""
    later = records[1:]  # the first is t = 0
    modes = [j for j in range(1, len(later[0])) if f"theory/snr_{j}" in later[0]]
    spectra = torch.tensor([[record[f"theory/snr_{j}"] for j in modes] for record in later])
    losses = torch.tensor([column(later, name.replace("path/", "theory/")) for name, _ in LOSSES.values()])
    theory = Theory(torch.tensor(column(later, "path/time")), modes, spectra, losses)
    heading = f"{title}     points: flow simulated on the features; full lines: closed form from the same start"
    figure = _portrait(later, "path/time", theory, heading)
    for axes in figure.axes:
        axes.set(xscale="log", xlabel="time t of the renormalized gradient flow")
    return figure


def _portrait(records: list[Record], axis: str, theory: Theory, title: str) -> Figure:
    figure, (spectrum, losses, collapse) = pyplot.subplots(1, 3, figsize=(15, 5.2), layout="constrained", sharex=True)
    positions = column(records, axis)
    for place, (mode, colour) in enumerate(zip(theory.modes, mode_colours(len(theory.modes)), strict=True)):
        spectrum.plot(positions, column(records, f"path/snr_{mode}"), ".", color=colour, label=omega(mode))
        spectrum.plot(theory.positions.numpy(), theory.spectra[:, place].numpy(), color=colour, linewidth=1)
    _draw_losses(losses, records, positions, theory)
    for label, (name, colour) in COLLAPSE.items():
        values = numpy.asarray(column(records, name))
        if bool((values > 0).any()):
            collapse.plot(positions, numpy.where(values > 0, values, numpy.nan), ".", color=colour, label=label)
            collapse.plot(positions, numpy.where(values > 0, values, numpy.nan), ":", color=colour, linewidth=0.8)
    spectrum.set(title="SNR spectrum", ylabel="ω: class means in units of the noise within classes")
    losses.set(title="Loss of the best last layer", ylabel="½ squared error, λ = 0")
    collapse.set(title="Neural collapse", ylabel="0 at collapse (exact zeros are not drawn)")
    for axes in (spectrum, losses, collapse):
        axes.set(yscale="log", xlabel=axis)
        plain_ticks(axes)
        axes.grid(alpha=0.25, linewidth=0.5)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, framealpha=0.9, ncols=2 if axes is spectrum else 1)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_losses(axes: Axes, records: list[Record], positions: list[float], theory: Theory) -> None:
    for place, (label, (name, colour)) in enumerate(LOSSES.items()):
        axes.plot(positions, column(records, name), ".", color=colour, label=label)
        if theory.losses is not None:
            axes.plot(theory.positions.numpy(), theory.losses[place].numpy(), color=colour, linewidth=1)
