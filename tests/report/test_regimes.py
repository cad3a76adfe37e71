"""The figure of a sweep over regimes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from synthetic_sweep import write_run

from ncexp.record import find_runs, read_run
from ncexp.report.regimes import has_regimes, regimes_grid
from ncexp.report.sweep import gather

REGIMES = ["plain", "on_path", "renormalized"]


def _runs(outputs: Path) -> None:
    for regime in REGIMES:
        for seed in (0, 1):
            path = write_run(outputs / regime, loss="mse", seed=seed)
            raw = yaml.safe_load((path / "config.yaml").read_text())
            (path / "config.yaml").write_text(yaml.safe_dump(raw | {"regime": regime}))


@pytest.mark.slow
def test_regimes_are_cells_of_their_own_and_columns_of_the_figure(tmp_path: Path) -> None:
    _runs(tmp_path)
    runs = [read_run(path) for path in find_runs([tmp_path / regime for regime in REGIMES])]
    sweep = gather(runs)
    assert has_regimes(sweep)
    assert sorted(sweep.losses) == ["mse", "mse_on_path", "mse_renormalized"]
    figure = regimes_grid(sweep)
    assert [axes.get_title().partition("\n")[0] for axes in figure.axes] == sweep.losses
