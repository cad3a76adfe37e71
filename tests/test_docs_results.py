"""The example with pandas in docs/reading_results.md: what it averages over, and nothing else."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from synthetic_sweep import EPOCHS, write_run

from ncexp.record import read_run

PAGE = Path(__file__).parents[1] / "docs" / "reading_results.md"


@pytest.mark.slow
def test_pandas_example_averages_over_seeds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {
        (loss, seed): write_run(tmp_path / "outputs", loss=loss, seed=seed)
        for loss in ("mse", "mse_mean")
        for seed in (0, 1)
    }
    journal = next((paths["mse", 0] / "measurements").glob("collapse_*.jsonl"))
    lines = journal.read_text().splitlines()  # a number of a layer has the same last part of its name
    journal.write_text("".join(f'{line[:-1]}, "train/layers/body/nc1_trace": 1e6}}\n' for line in lines))
    monkeypatch.chdir(tmp_path)
    block = re.search(r"((?:    .*\n)+)", PAGE.read_text()[PAGE.read_text().index("    import ncexp") :])
    assert block is not None
    names: dict[str, Any] = {}
    exec(compile(dedent(block[1]), str(PAGE), "exec"), names)
    assert list(names["nc1"].index) == EPOCHS  # not the zero-error epochs, which are those of some runs
    assert list(names["nc1"].columns.names) == ["dataset", "architecture", "loss", "lr"]
    for (_, _, loss, _), column in names["nc1"].items():
        runs = [read_run(paths[loss, seed]) for seed in (0, 1)]
        for epoch in EPOCHS:
            values = [record["train/collapse/nc1_trace"] for run in runs for record in run.records
                      if record["epoch"] == epoch]  # fmt: skip
            assert column[epoch] == pytest.approx(statistics.fmean(values), rel=1e-12)  # a sum of two
