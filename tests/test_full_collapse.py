"""Plain training of unconstrained features reaches full collapse, at the global minimum, when its equations say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "full_collapse.py"


@pytest.mark.slow
def test_plain_training_reaches_full_collapse_and_the_global_minimum(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    command = [sys.executable, str(SCRIPT), "--short", "--json", str(table)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(table.read_text())["rows"]
    for name, level in (("ratio", 1.01), ("duality", 1e-4), ("gap", 1e-6)):
        assert row[f"steps to {name} ≤ {level:g}"] == pytest.approx(row[f"{name}, theory"], rel=0.05, abs=10)
    assert 1 <= row["last ratio"] <= 1.01
    assert row["duality at the end"] <= 1e-4
