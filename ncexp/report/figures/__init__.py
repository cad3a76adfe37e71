"""The paper's figures of one run, drawn from its records alone."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from ncexp.measure import Comparison
from ncexp.record import SavedRun
from ncexp.record.quantities import NC1, leading
from ncexp.report.figures.central_path import central_path_figure
from ncexp.report.figures.panels import decomposition_figure, neural_collapse_figure
from ncexp.report.figures.path_portrait import simulation_portrait, training_portrait
from ncexp.report.style import save

__all__ = [
    "central_path_figure",
    "decomposition_figure",
    "draw_figures",
    "draw_simulation",
    "neural_collapse_figure",
    "simulation_portrait",
    "training_portrait",
]


def draw_figures(run: SavedRun, directory: Path, comparison: Comparison | None = None) -> list[Path]:
    """The figures of a training in `directory`, as far as its records hold their quantities; returns their paths.

    neural_collapse.png, mse_decomposition.png; with a comparison with the central path, central_path.png where an epoch
    has a spectrum, and path_portrait.png where the closed form was fitted. Beside each PNG lies the same as PDF.
    """
    directory.mkdir(exist_ok=True)
    recorded = {name for record in run.records for name in record}
    drawn = []
    if leading(NC1).on() in recorded:
        drawn.append(_save(neural_collapse_figure(run), directory, "neural_collapse"))
    if "train/mse/loss" in recorded:
        drawn.append(_save(decomposition_figure(run), directory, "mse_decomposition"))
    if comparison is not None and bool(comparison.spectra.isfinite().any()):
        drawn.append(_save(central_path_figure(run, comparison), directory, "central_path"))
    if comparison is not None and comparison.fit is not None:
        drawn.append(_save(training_portrait(run, comparison), directory, "path_portrait"))
    return drawn


def draw_simulation(run: SavedRun, directory: Path) -> Path:
    """The figure of a simulation, path_portrait.png in `directory`."""
    directory.mkdir(exist_ok=True)
    return _save(simulation_portrait(run), directory, "path_portrait")


def _save(figure: Figure, directory: Path, name: str) -> Path:
    """As PNG, for the screen and MLflow's page, and as PDF, for a paper; returns the PNG."""
    return save(figure, directory / f"{name}.png", directory / f"{name}.pdf")
