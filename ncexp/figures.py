"""The paper's figures of one run, drawn from its records alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncexp.journal import Record, column
from ncexp.summary import zero_error_epoch

#: Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"
RED = "#D0021B"
TRAIN, TEST = "-", "--"


@dataclass(frozen=True)
class Panel:
    """One panel: its title, axis label, the curves as label → (quantity without split, colour), and its scale."""

    title: str
    label: str
    curves: dict[str, tuple[str, str]]
    log: bool = False


NEURAL_COLLAPSE = [
    Panel("NC1: within-class variability", "tr(Σ_W Σ_B⁺) / C", {"features": ("nc1_trace", BLUE)}, log=True),
    Panel(
        "NC2: equal norms",
        "std / mean of the norms",
        {"class means": ("equinorm_means", BLUE), "classifier": ("equinorm_classifier", ORANGE)},
    ),
    Panel(
        "NC2: equal angles",
        "std of the cosines",
        {"class means": ("equiangularity_means", BLUE), "classifier": ("equiangularity_classifier", ORANGE)},
    ),
    Panel(
        "NC2: maximal angle",
        "mean |cos + 1/(C−1)|",
        {"class means": ("maximal_angle_means", BLUE), "classifier": ("maximal_angle_classifier", ORANGE)},
    ),
    Panel("NC3: self-duality", "‖Wᵀ/‖W‖ − M/‖M‖‖²", {"means and classifier": ("self_duality", BLUE)}, log=True),
    Panel(
        "NC4: nearest class center", "share decided otherwise", {"examples": ("nearest_class_center_mismatch", BLUE)}
    ),
]

DECOMPOSITION = {
    "L": ("mse/loss", BLACK, ":"),
    "L_NC1": ("mse/loss_nc1", BLUE, "-"),
    "L_NC2/3": ("mse/loss_nc23", ORANGE, "-"),
    "L_LS⊥": ("mse/loss_ls_perp", GREEN, "-"),
}


def draw_figures(records: list[Record], directory: Path, title: str) -> list[Path]:
    """neural_collapse.png and mse_decomposition.png in `directory`, as far as the records hold their quantities."""
    directory.mkdir(exist_ok=True)
    drawn = []
    if any("train/nc1_trace" in record for record in records):
        drawn.append(_save(neural_collapse_figure(records, title), directory / "neural_collapse.png"))
    if any("mse/loss" in record for record in records):
        drawn.append(_save(decomposition_figure(records, title), directory / "mse_decomposition.png"))
    return drawn


def neural_collapse_figure(records: list[Record], title: str) -> Figure:
    """NC1 to NC4 against epoch, train (solid) and test (dashed), class means and classifier in one panel."""
    figure, grid = pyplot.subplots(2, 3, figsize=(12, 6.4), layout="constrained", sharex=True)
    for axes, panel in zip(grid.flat, NEURAL_COLLAPSE, strict=True):
        for label, (quantity, colour) in panel.curves.items():
            # The classifier's own geometry is the same on either split.
            splits = (("train", TRAIN),) if quantity.endswith("_classifier") else (("train", TRAIN), ("test", TEST))
            for split, style in splits:
                name = label if quantity.endswith("_classifier") else f"{label}, {split}"
                _curve(axes, records, f"{split}/{quantity}", label=name, color=colour, linestyle=style)
        axes.set(title=panel.title, ylabel=panel.label, yscale="log" if panel.log else "linear")
        if not panel.log:
            axes.set_ylim(bottom=0)
        _finish(axes, records)
    figure.suptitle(f"{title}     red line: first epoch with train error ≤ 0.1 %", fontsize=11)
    return figure


def decomposition_figure(records: list[Record], title: str) -> Figure:
    """HPD22 Figure 2's panel: the MSE loss and its three parts against epoch, log axis, on train features."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    for label, (name, colour, style) in DECOMPOSITION.items():
        _curve(axes, records, name, label=label, color=colour, linestyle=style)
    axes.set(
        title=f"{title}\nL = L_NC1 + L_NC2/3 + L_LS⊥ on train features", ylabel="loss (½ squared error, decay included)"
    )
    axes.set_yscale("log")
    _finish(axes, records)
    return figure


def _curve(axes: Axes, records: list[Record], name: str, label: str, color: str, linestyle: str) -> None:
    values = column(records, name)
    if not all(math.isnan(value) for value in values):
        axes.plot(
            column(records, "epoch"),
            values,
            linestyle,
            color=color,
            label=label,
            marker=".",
            markersize=3,
            linewidth=1.2,
        )


def _finish(axes: Axes, records: list[Record]) -> None:
    if (zero := zero_error_epoch(records)) is not None:
        axes.axvline(zero, color=RED, linewidth=1.2)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.legend(fontsize=8, framealpha=0.9)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path
