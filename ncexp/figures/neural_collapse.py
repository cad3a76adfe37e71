"""NC1 to NC4 of one run (PHD20)."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib import pyplot
from matplotlib.figure import Figure

from ncexp.figures.style import BLUE, ORANGE, TEST, TRAIN, curve, finish
from ncexp.journal import Record


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


def neural_collapse_figure(records: list[Record], title: str) -> Figure:
    """NC1 to NC4 against epoch, train (solid) and test (dashed), class means and classifier in one panel."""
    figure, grid = pyplot.subplots(2, 3, figsize=(12, 6.4), layout="constrained", sharex=True)
    for axes, panel in zip(grid.flat, NEURAL_COLLAPSE, strict=True):
        for label, (quantity, colour) in panel.curves.items():
            # The classifier's own geometry is the same on either split.
            splits = (("train", TRAIN),) if quantity.endswith("_classifier") else (("train", TRAIN), ("test", TEST))
            for split, style in splits:
                name = label if quantity.endswith("_classifier") else f"{label}, {split}"
                curve(axes, records, f"{split}/{quantity}", label=name, color=colour, linestyle=style)
        axes.set(title=panel.title, ylabel=panel.label, yscale="log" if panel.log else "linear")
        if not panel.log:
            axes.set_ylim(bottom=0)
        finish(axes, records)
    figure.suptitle(f"{title}     red line: first epoch with train error ≤ 0.1 %", fontsize=11)
    return figure
