"""The MSE decomposition of one run (HPD22 Figure 2)."""

from __future__ import annotations

from matplotlib import pyplot
from matplotlib.figure import Figure

from ncexp.figures.style import BLACK, BLUE, GREEN, ORANGE, curve, finish
from ncexp.journal import Record

DECOMPOSITION = {
    "L": ("mse/loss", BLACK, ":"),
    "L_NC1": ("mse/loss_nc1", BLUE, "-"),
    "L_NC2/3": ("mse/loss_nc23", ORANGE, "-"),
    "L_LS⊥": ("mse/loss_ls_perp", GREEN, "-"),
}


def decomposition_figure(records: list[Record], title: str) -> Figure:
    """HPD22 Figure 2's panel: the MSE loss and its three parts against epoch, log axis, on train features."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    for label, (name, colour, style) in DECOMPOSITION.items():
        curve(axes, records, name, label=label, color=colour, linestyle=style)
    axes.set(
        title=f"{title}\nL = L_NC1 + L_NC2/3 + L_LS⊥ on train features", ylabel="loss (½ squared error, decay included)"
    )
    axes.set_yscale("log")
    finish(axes, records)
    return figure
