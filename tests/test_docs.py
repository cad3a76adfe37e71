"""What the documents show runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_library_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "library.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "docs/library.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "CollapseMetrics(nc1_trace=" in shown
    assert "MSEDecomposition(loss=" in shown
    assert "SNRSpectrum(" in shown
