"""The paper's figures of one run, drawn from its records alone; one file a figure."""

from __future__ import annotations

from pathlib import Path

from ncexp.figures.central_path import central_path_figure
from ncexp.figures.decomposition import decomposition_figure
from ncexp.figures.neural_collapse import neural_collapse_figure
from ncexp.figures.style import save
from ncexp.journal import Record
from ncexp.theory import Comparison

__all__ = ["central_path_figure", "decomposition_figure", "draw_figures", "neural_collapse_figure"]


def draw_figures(
    records: list[Record], directory: Path, title: str, comparison: Comparison | None = None
) -> list[Path]:
    """neural_collapse.png, mse_decomposition.png and central_path.png, as far as the records hold their quantities.

    comparison: of the records with the central path; that figure needs it, and an epoch with a spectrum.
    """
    directory.mkdir(exist_ok=True)
    drawn = []
    if any("train/nc1_trace" in record for record in records):
        drawn.append(save(neural_collapse_figure(records, title), directory / "neural_collapse.png"))
    if any("mse/loss" in record for record in records):
        drawn.append(save(decomposition_figure(records, title), directory / "mse_decomposition.png"))
    if comparison is not None and bool(comparison.spectra.isfinite().any()):
        drawn.append(save(central_path_figure(records, comparison, title), directory / "central_path.png"))
    return drawn
