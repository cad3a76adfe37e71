"""Figures of one run made of the catalogue's panels: NC1 to NC4 (PHD20), and the MSE decomposition (HPD22 Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncexp.record import SavedRun
from ncexp.record.quantities import (
    BOTH,
    DECOMPOSITION,
    NC1,
    NC2_ANGLES,
    NC2_MAXIMAL,
    NC2_NORMS,
    NC3,
    NC4,
    TRAIN,
    panels,
)
from ncexp.report.style import (
    axis_label,
    curves_of,
    draw_curve,
    draw_zero_line,
    finish,
    group_colours,
    scale_axis,
    shown_name,
    zero_error_note,
)

COLLAPSE = (NC1, NC2_NORMS, NC2_ANGLES, NC2_MAXIMAL, NC3, NC4)


def neural_collapse_figure(run: SavedRun) -> Figure:
    """NC1 to NC4 against epoch, train (solid) and test (dashed), class means and classifier in one panel."""
    figure, grid = pyplot.subplots(2, 3, figsize=(12, 6.4), layout="constrained", sharex=True)
    for axes, panel in zip(grid.flat, COLLAPSE, strict=True):
        draw_panel(axes, run, panel)
        axes.set_title(panel)
    figure.suptitle(f"{shown_name(run)}     {zero_error_note(run)}", fontsize=11)
    return figure


def decomposition_figure(run: SavedRun) -> Figure:
    """HPD22 Figure 2's panel: the MSE loss and its three parts against epoch, log axis, on train features."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    draw_panel(axes, run, DECOMPOSITION, splits=TRAIN)
    heading = f"{shown_name(run)}\nL = L_NC1 + L_NC2/3 + L_LS⊥ on train features\n{zero_error_note(run)}"
    axes.set_title(heading, fontsize=9)
    return figure


def draw_panel(axes: Axes, run: SavedRun, panel: str, splits: Sequence[str] = BOTH) -> None:
    """One of the catalogue's panels against epoch."""
    rows = panels()[panel]
    loss = run.cell[2]
    for curve in curves_of(rows, splits, group_colours([loss])[loss]):
        draw_curve(axes, run.records, curve, marker=".")
    axes.set(xlabel="epoch", ylabel=axis_label(rows[0], [run]))
    scale_axis(axes, rows[0])
    draw_zero_line(axes, run)
    finish(axes)
