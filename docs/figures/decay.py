"""Draws docs/figures/decay.png: ncexp sweep=decay experiment=decay && python docs/figures/decay.py outputs"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib import pyplot

import ncexp
from ncexp.report.style import OTHERS, label_ticks

PANELS = {
    "train/collapse/nc0_classifier": "NC0: ‖Σ w_c‖/‖W‖",
    "train/collapse/nc1_trace": "NC1: tr(Σ_W Σ_B⁺)/C",
    "train/collapse/etf_error_classifier": "ETF error of the classifier",
    "train/collapse/self_duality": "NC3: ‖Wᵀ/‖W‖ − M̄/‖M̄‖‖²",
}
LINES = {
    ("sgd", 0.0): ("SGD, coupled", OTHERS[0], "-"),
    ("sgd", 1.0): ("SGD, decoupled", OTHERS[0], "--"),
    ("adam", 0.0): ("Adam, coupled", OTHERS[1], "-"),
    ("adam", 1.0): ("Adam, decoupled", OTHERS[1], "--"),
}


def main(outputs: str, target: Path) -> None:
    """Against the decay: each number at the last epoch, the mean over the seeds and their range; also as a table."""
    table = ncexp.load(outputs, where={"dataset": "digits", "architecture": "mlp", "loss": "cross_entropy"}).table()
    shown = [*PANELS, "train/error", "test/error"]
    print("| decay | " + " | ".join(shown) + " |")
    figure, grid = pyplot.subplots(1, len(PANELS), figsize=(14, 3.4), layout="constrained")
    for (rule, share), (label, colour, line) in LINES.items():
        of_line = table[(table.optimizer == rule) & (table["optimizer.decoupled"] == share)]
        by_decay = of_line.groupby("optimizer.weight_decay")[shown]
        mean, low, high = by_decay.mean(), by_decay.min(), by_decay.max()
        for decay, row in mean.iterrows():
            print(
                f"| {label} {decay:g} ({len(by_decay.get_group(decay))} runs) | "
                + " | ".join(f"{x:.3g}" for x in row)
                + " |"
            )
        alive = mean.index[mean["train/error"] < 0.5]  # where decay won over the loss there is no network to measure
        for axes, name in zip(grid, PANELS, strict=True):
            axes.plot(alive, mean.loc[alive, name], line, color=colour, marker=".", label=label)
            axes.fill_between(alive, low.loc[alive, name], high.loc[alive, name], color=colour, alpha=0.15)
    for axes, title in zip(grid, PANELS.values(), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="weight decay", title=title)
        label_ticks(axes.xaxis)
        label_ticks(axes.yaxis)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(LINES), frameon=False)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1], Path(__file__).parent / "decay.png")
