"""The paper's figures of one run, drawn from its records alone; one file a figure."""

from __future__ import annotations

from pathlib import Path

from ncexp.figures.central_path import central_path_figure
from ncexp.figures.decomposition import decomposition_figure
from ncexp.figures.neural_collapse import neural_collapse_figure
from ncexp.figures.path_portrait import simulation_portrait, training_portrait
from ncexp.figures.style import save
from ncexp.journal import Record
from ncexp.theory import Comparison

__all__ = [
    "central_path_figure",
    "decomposition_figure",
    "draw_figures",
    "draw_simulation",
    "neural_collapse_figure",
    "simulation_portrait",
    "training_portrait",
]


def draw_figures(
    records: list[Record], directory: Path, title: str, comparison: Comparison | None = None
) -> list[Path]:
    """The figures of a training in `directory`, as far as the records hold their quantities.

    neural_collapse.png, mse_decomposition.png; with a comparison with the central path, central_path.png where an epoch
    has a spectrum, and path_portrait.png where the closed form was fitted.
    """
    directory.mkdir(exist_ok=True)
    drawn = []
    if any("train/nc1_trace" in record for record in records):
        drawn.append(save(neural_collapse_figure(records, title), directory / "neural_collapse.png"))
    if any("mse/loss" in record for record in records):
        drawn.append(save(decomposition_figure(records, title), directory / "mse_decomposition.png"))
    if comparison is not None and bool(comparison.spectra.isfinite().any()):
        drawn.append(save(central_path_figure(records, comparison, title), directory / "central_path.png"))
    if comparison is not None and comparison.fit is not None:
        drawn.append(save(training_portrait(records, comparison, title), directory / "path_portrait.png"))
    return drawn


def draw_simulation(records: list[Record], directory: Path, title: str) -> Path:
    """The figure of a simulation, path_portrait.png in `directory`."""
    directory.mkdir(exist_ok=True)
    return save(simulation_portrait(records, title), directory / "path_portrait.png")
