"""Tables and figures of docs/fashion_mnist.md, of the runs of `ncexp sweep=fashion_mnist_full`.

    python docs/fashion_mnist_full.py summary OUTPUTS    # completed runs into docs/summaries/fashion_mnist_full.json
    python docs/fashion_mnist_full.py page               # tables into the page, and its figures, from that file alone

A run that the file has and OUTPUTS lacks stays there, so the sweep may be trained in parts, on several machines.
Numbers have four digits. Of several seeds a table has the mean and, in brackets, the least and the largest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fashion_mnist_claims import claims
from fashion_mnist_runs import DATA_RATIO, DOCS, IMAGES, PAGE, RATE, RATIO, Run, best, chosen, read, summarise
from fashion_mnist_tables import (
    FEATURES,
    PER_CLASS,
    account,
    cost,
    decays,
    decomposition,
    images,
    interventions,
    networks,
    rates,
    seeds,
    short,
)


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["summary", outputs]:
            summarise(Path(outputs))
        case ["page"]:
            write_page()
        case _:
            sys.exit(__doc__)


BLOCKS: dict[str, Callable[[list[Run]], str]] = {
    "short": short,
    "rates": rates,
    "seeds": seeds,
    "account": account,
    "decomposition": decomposition,
    "claims": claims,
    "images": images,
    "decays": decays,
    "networks": networks,
    "interventions": interventions,
    "cost": cost,
}


def with_blocks(page: str, runs: list[Run]) -> str:
    """The page with every table between <!-- NAME --> and <!-- end --> made anew."""
    for name, make in BLOCKS.items():
        parts = re.split(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- end -->)", page, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"{PAGE.name}: expected <!-- {name} --> once, got {len(parts) - 1}. Write it there.")
        page = make(runs).join(parts)
    return page


def write_page() -> None:
    """Tables and figures of the page."""
    runs = read()
    PAGE.write_text(with_blocks(PAGE.read_text(), runs))
    draw(runs)


# Figures


def draw(runs: list[Run]) -> None:
    """The figures of the page."""
    from matplotlib import pyplot

    from ncexp.report import style

    figures = DOCS / "figures"
    cells = {heading: seeds for heading, seeds in best(runs).items() if "MSE" in heading}
    with pyplot.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        parts = {"loss": "L", "loss_nc1": "L_NC1", "loss_nc23": "L_NC2/3", "loss_ls_perp": "L_LS⊥"}
        figure, axes = pyplot.subplots(
            1, len(cells) + 1, squeeze=False, figsize=(3.4 * (len(cells) + 1), 3.1), layout="constrained"
        )
        axes = axes[0]
        for axis, (heading, seeds) in zip(axes, cells.items(), strict=False):
            for part, label in parts.items():
                _curve(axis, seeds, f"train/mse/{part}", style.COLOURS[part], label)
            _zero(axis, seeds, style.RED)
            axis.set(title=f"{heading}, {IMAGES:,} images", xscale="log", yscale="log", xlabel="epoch")
            axis.legend(fontsize=8, frameon=False)
        colours = (style.COLOURS["mse"], *style.OTHERS)
        for run, colour in zip(chosen(runs, loss="mse", lr=RATE), colours, strict=False):
            _curve(axes[-1], [run], RATIO, colour, f"seed {run.settings['seed']}")
            _curve(axes[-1], [run], DATA_RATIO, colour, None, ":")
        axes[-1].axhline(0.1, color=style.NEUTRAL, lw=0.8)
        axes[-1].set(title="L_LS⊥/L_NC1; dotted: data parts", xscale="log", yscale="log", xlabel="epoch")
        axes[-1].legend(fontsize=8, frameon=False)
        figure.savefig(figures / "fashion_mnist_full.png", dpi=style.DPI)

        figure, axis = pyplot.subplots(figsize=(4.2, 3.1), layout="constrained")
        sizes = [(10 * n, chosen(runs, loss="mse", lr=RATE, per_class=n)) for n in PER_CLASS]
        for quantity, label, line in ((RATIO, "L_LS⊥/L_NC1", "-"), (DATA_RATIO, "data parts", ":")):
            drawn = [(n / FEATURES, [run.at(quantity, run.last) for run in seeds]) for n, seeds in sizes if seeds]
            places = [place for place, _ in drawn]
            axis.plot(
                places, [fmean(v) for _, v in drawn], line, marker="o", ms=4, color=style.COLOURS["mse"], label=label
            )
            axis.vlines(
                places, [min(v) for _, v in drawn], [max(v) for _, v in drawn], color=style.COLOURS["mse"], lw=2
            )
        axis.set(xscale="log", yscale="log", xlabel="n/P, images a feature", ylabel="at the end of training")
        axis.legend(fontsize=8, frameon=False, loc="lower left")
        figure.savefig(figures / "fashion_mnist_images.png", dpi=style.DPI)

        panels = {
            "NC1": ("nc1_trace",),
            "NC2, equinorm": ("equinorm_means", "equinorm_classifier"),
            "NC2, equiangularity": ("equiangularity_means", "equiangularity_classifier"),
            "NC2, ETF error": ("etf_error_means", "etf_error_classifier"),
            "NC3, self-duality": ("self_duality",),
            "NC4, mismatch": ("nearest_class_center_mismatch",),
        }
        figure, axes = pyplot.subplots(2, 3, figsize=(10, 5.6), layout="constrained")
        for axis, (title, quantities) in zip(axes.flat, panels.items(), strict=True):
            for heading, seeds in best(runs).items():
                if heading.startswith("MLP"):
                    colour = style.COLOURS[seeds[0].settings["loss"]]
                    for quantity, line in zip(quantities, (style.TRAIN_LINE, style.CLASSIFIER_LINE), strict=False):
                        _curve(
                            axis, seeds, f"train/collapse/{quantity}", colour, heading if line == "-" else None, line
                        )
                    _curve(axis, seeds, f"test/collapse/{quantities[0]}", colour, None, style.TEST_LINE)
                    _zero(axis, seeds, colour)
            axis.set(title=title, xscale="log", yscale="log", xlabel="epoch")
        axes.flat[0].legend(fontsize=8, frameon=False)
        figure.savefig(figures / "fashion_mnist_full_nc.png", dpi=style.DPI)


def _curve(axis: Any, seeds: list[Run], quantity: str, colour: str, label: str | None, line: str = "-") -> None:
    """Mean over the seeds, and the band between the least and the largest, at the epochs that all have."""
    epochs = sorted(set.intersection(*(set(run.epochs) for run in seeds)))
    values = [[run.at(quantity, epoch) for run in seeds] for epoch in epochs]
    axis.plot(epochs, [fmean(of_epoch) for of_epoch in values], line, color=colour, label=label, lw=1.4)
    axis.fill_between(epochs, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.25, lw=0)


def _zero(axis: Any, seeds: list[Run], colour: str) -> None:
    zeros = [run.zero for run in seeds if run.zero is not None]
    if zeros:
        axis.axvline(fmean(zeros), color=colour, lw=0.8, ls="--")


if __name__ == "__main__":
    main(sys.argv[1:])
