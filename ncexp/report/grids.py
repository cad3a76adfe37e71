"""The paper's figure grids: datasets across, networks down, epochs in every panel; vector PDF and PNG of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ncexp.journal import column
from ncexp.report.sweep import Cell, Sweep
from ncexp.run_record import RunRecord
from ncexp.summary import zero_error_epoch

#: Okabe and Ito's colours, told apart by colour-blind readers; red is kept for zero error.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000"]
RED = "#D0021B"
Style = Literal["-", "--", ":"]
STYLES: list[Style] = ["-", "--", ":"]


@dataclass(frozen=True)
class Quantity:
    """One grid: its name as file, what its axis says, the curves as label → entry of the record, and its scale."""

    name: str
    label: str
    curves: dict[str, str]
    log: bool = False


QUANTITIES = [
    Quantity("nc1", "NC1: tr(Σ_W Σ_B⁺)/C", {"train": "train/nc1_trace", "test": "test/nc1_trace"}, log=True),
    Quantity(
        "equinorm",
        "NC2 equinorm: std/mean of the norms",
        {"class means": "train/equinorm_means", "classifier": "train/equinorm_classifier"},
    ),
    Quantity(
        "equiangularity",
        "NC2 equiangularity: std of the cosines",
        {"class means": "train/equiangularity_means", "classifier": "train/equiangularity_classifier"},
    ),
    Quantity(
        "maximal_angle",
        "NC2 maximal angle: mean |cos + 1/(C−1)|",
        {"class means": "train/maximal_angle_means", "classifier": "train/maximal_angle_classifier"},
    ),
    Quantity("self_duality", "NC3 self-duality: ‖Wᵀ/‖W‖ − M/‖M‖‖²", {"train": "train/self_duality"}, log=True),
    Quantity(
        "ncc_mismatch",
        "NC4: share not decided by the nearest class mean",
        {"train": "train/nearest_class_center_mismatch", "test": "test/nearest_class_center_mismatch"},
    ),
    Quantity("test_error", "error", {"test": "test/error", "train": "train/error"}),
    Quantity("central_path", "share of L off the central path: L_LS⊥/L", {"train": "mse/loss_ls_perp"}, log=True),
]
DECOMPOSITION: dict[str, tuple[str, str, Style]] = {
    "L": ("mse/loss", COLOURS[5], ":"),
    "L_NC1": ("mse/loss_nc1", COLOURS[0], "-"),
    "L_NC2/3": ("mse/loss_nc23", COLOURS[1], "-"),
    "L_LS⊥": ("mse/loss_ls_perp", COLOURS[2], "-"),
}


def draw_all(sweep: Sweep, folder: Path) -> list[tuple[str, Path]]:
    """Every figure that the records allow, as (caption, PNG); the PDF lies beside it."""
    return [(caption, _save(figure, folder / name)) for name, caption, figure in _figures(sweep)]


def _figures(sweep: Sweep) -> Iterator[tuple[str, str, Figure]]:
    recorded = {name for cell in sweep.cells.values() for run in cell.best for name in run.records[-1]}
    yield (
        "learning_rates",
        "Which learning rate won: test error at the last epoch; the circle is the choice.",
        rates_grid(sweep),
    )
    for loss in sweep.losses:
        if "mse/loss" in recorded:
            caption = f"HPD22 Figure 2, trained with {loss}: the MSE loss on train features and its parts."
            yield f"decomposition_{loss}", caption, decomposition_grid(sweep, loss)
    for quantity in QUANTITIES:
        if recorded & set(quantity.curves.values()):
            yield (
                quantity.name,
                f"{quantity.label}. Each cell at its best learning rate.",
                quantity_grid(sweep, quantity),
            )


def quantity_grid(sweep: Sweep, quantity: Quantity) -> Figure:
    """Colour says the loss, line style which curve; red: the first epoch of zero error, in the loss's style."""
    shares = quantity.name == "central_path"

    def draw(axes: Axes, cells: list[Cell]) -> None:
        for cell in cells:
            position = sweep.losses.index(cell.place[2])
            for seed, run in enumerate(cell.best):
                for (_, name), style in zip(quantity.curves.items(), STYLES, strict=False):
                    values = column(run.records, name)
                    if shares:
                        values = [v / total for v, total in zip(values, column(run.records, "mse/loss"), strict=True)]
                    _plot(axes, run, values, COLOURS[position], style)
                if seed == 0:
                    _zero_line(axes, run, STYLES[position % len(STYLES)])

    figure = _grid(sweep, quantity.label, quantity.log, draw)
    handles = [Line2D([], [], color=COLOURS[i], label=loss) for i, loss in enumerate(sweep.losses)]
    handles += [
        Line2D([], [], color="grey", linestyle=s, label=label)
        for label, s in zip(quantity.curves, STYLES, strict=False)
        if len(quantity.curves) > 1
    ]
    handles += [
        Line2D([], [], color=RED, linestyle=STYLES[i % len(STYLES)], label=f"zero error, {loss}")
        for i, loss in enumerate(sweep.losses)
    ]
    return _legend(figure, handles)


def decomposition_grid(sweep: Sweep, loss: str) -> Figure:
    """L, L_NC1, L_NC2/3 and L_LS⊥ of the runs trained with `loss`, log axis."""

    def draw(axes: Axes, cells: list[Cell]) -> None:
        for cell in cells:
            for seed, run in enumerate(cell.best if cell.place[2] == loss else []):
                for name, colour, style in DECOMPOSITION.values():
                    _plot(axes, run, column(run.records, name), colour, style)
                if seed == 0:
                    _zero_line(axes, run, "-")

    figure = _grid(sweep, f"MSE loss, trained with {loss}", True, draw)
    handles = [Line2D([], [], color=c, linestyle=s, label=label) for label, (_, c, s) in DECOMPOSITION.items()]
    return _legend(figure, [*handles, Line2D([], [], color=RED, label="zero error")])


def rates_grid(sweep: Sweep) -> Figure:
    """Test error at the last epoch against learning rate, mean over seeds, both axes logarithmic."""

    def draw(axes: Axes, cells: list[Cell]) -> None:
        axes.set_xscale("log")
        for cell in cells:
            colour = COLOURS[sweep.losses.index(cell.place[2])]
            axes.plot(list(cell.complete_rates), list(cell.complete_rates.values()), ".-", color=colour, linewidth=1)
            for rate in cell.rates.keys() - cell.complete_rates.keys():
                axes.plot([rate], [0.97], "x", color=colour, transform=axes.get_xaxis_transform(), markersize=5)
            if cell.best_rate is not None:
                chosen = cell.complete_rates[cell.best_rate]
                axes.plot([cell.best_rate], [chosen], "o", color=colour, fillstyle="none", markersize=9)

    figure = _grid(sweep, "test error at the last epoch", True, draw, "learning rate")
    handles = [Line2D([], [], color=COLOURS[i], label=loss) for i, loss in enumerate(sweep.losses)]
    handles.append(Line2D([], [], color="grey", marker="o", fillstyle="none", linestyle="", label="chosen"))
    handles.append(Line2D([], [], color="grey", marker="x", linestyle="", label="diverged, failed or not done"))
    return _legend(figure, handles)


def _grid(
    sweep: Sweep, label: str, log: bool, draw: Callable[[Axes, list[Cell]], None], across: str = "epoch"
) -> Figure:
    """Panels of one scale, so that cells compare; the networks' names at the left, the datasets' above."""
    rows, columns = len(sweep.architectures), len(sweep.datasets)
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(max(2.4 * columns, 4.6) + 0.8, max(1.9 * rows, 2.4) + 0.9),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for i, architecture in enumerate(sweep.architectures):
        for j, dataset in enumerate(sweep.datasets):
            axes = grid[i][j]
            cells = [cell for place, cell in sweep.cells.items() if place[:2] == (dataset, architecture)]
            draw(axes, cells)
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.tick_params(which="both", labelsize=7)
            if i == 0:
                axes.set_title(dataset, fontsize=9)
            if j == 0:
                axes.set_ylabel(architecture, fontsize=9)
    if log:
        grid[0][0].set_yscale("log")
    else:
        grid[0][0].set_ylim(bottom=0)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(label, fontsize=9)
    return figure


def _plot(axes: Axes, run: RunRecord, values: list[float], colour: str, style: Style) -> None:
    if not all(math.isnan(value) for value in values):
        axes.plot(column(run.records, "epoch"), values, style, color=colour, linewidth=1.1)


def _zero_line(axes: Axes, run: RunRecord, style: Style) -> None:
    if (epoch := zero_error_epoch(run.records)) is not None:
        axes.axvline(epoch, color=RED, linewidth=0.9, linestyle=style)


def _legend(figure: Figure, handles: list[Line2D]) -> Figure:
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=7 if figure.get_figwidth() > 9 else 3,
        fontsize=8,
        frameon=False,
    )
    return figure


def _save(figure: Figure, stem: Path) -> Path:
    figure.savefig(stem.with_suffix(".pdf"))
    figure.savefig(stem.with_suffix(".png"), dpi=130)
    pyplot.close(figure)
    return stem.with_suffix(".png")
