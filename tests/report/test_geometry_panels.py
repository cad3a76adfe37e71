"""NC0 and the distances to the geometry of unequal classes have grids in a sweep's report, where they were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib import pyplot
from synthetic_sweep import write_run

from ncexp.measure.quantities import FREE_BIAS, NC0, SELI, panels
from ncexp.record import read_run
from ncexp.report.grids import figures_of, panel_grid
from ncexp.report.sweep import Sweep, gather

NEW = (NC0, SELI, FREE_BIAS)
GRIDS = {"nc0_rows_that_sum_to_zero", "seli_means_of_unequal_classes", "free_bias_means_of_unequal_classes"}


def _sweep(outputs: Path, *recorded: str) -> Sweep:
    """Two losses; with these train quantities beside the usual ones, each falling by half from row to row."""
    paths = [write_run(outputs, loss=loss) for loss in ("mse", "cross_entropy")]
    for path in paths:
        journal = next((path / "measurements").glob("collapse_*.jsonl"))
        rows = [json.loads(line) for line in journal.read_text().splitlines()]
        added = [row | {f"train/{name}": 0.5**place for name in recorded} for place, row in enumerate(rows)]
        journal.write_text("".join(f"{json.dumps(row)}\n" for row in added))
    return gather([read_run(path) for path in paths])


def test_grids_are_drawn_where_their_numbers_were_recorded(tmp_path: Path) -> None:
    names = [row.name for panel in NEW for row in panels()[panel]]
    assert len(names) == 5
    with_them = {name for name, _, _ in figures_of(_sweep(tmp_path / "with", *names))}
    without = {name for name, _, _ in figures_of(_sweep(tmp_path / "without"))}
    assert with_them - without == GRIDS


@pytest.mark.parametrize("panel", NEW)
def test_grid_shows_every_loss_and_every_curve(tmp_path: Path, panel: str) -> None:
    rows = panels()[panel]
    figure = panel_grid(_sweep(tmp_path, *(row.name for row in rows)), rows)
    axes = figure.axes[0]
    halved = [line for line in axes.lines if len(line.get_ydata()) > 2]  # type: ignore[arg-type]
    assert len(halved) == 2 * len(rows)
    assert all(line.get_ydata()[1] == pytest.approx(0.5) for line in halved)  # type: ignore[index]
    assert axes.get_yscale() == "log"
    pyplot.close(figure)
