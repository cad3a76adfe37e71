"""What the documents show runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import required
from synthetic_sweep import write_run

from ncexp.record import State, load

DOCS = Path(__file__).parents[1] / "docs"


def blocks(name: str) -> list[str]:
    """The Python of a document."""
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), flags=re.DOTALL)


def run(code: str, name: str) -> None:
    exec(compile(code, f"docs/{name}", "exec"), {})


@pytest.mark.slow
def test_library_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks("library.md")[0], "library.md")
    shown = capsys.readouterr().out
    assert "CollapseMetrics(nc1_trace=" in shown
    assert "MSEDecomposition(loss=" in shown
    assert "SNRSpectrum(" in shown


@pytest.mark.slow
def test_figure_of_frames_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for loss in ("mse", "cross_entropy"):
        write_run(tmp_path / "outputs", loss=loss)
    monkeypatch.chdir(tmp_path)
    code = blocks("library.md")[1]
    assert len([line for line in code.splitlines() if line]) == 6  # the import, and five lines
    run(code, "library.md")
    assert (tmp_path / "nc1.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("library", ["", "lightning", "transformers", "torchmetrics"])
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("no_figures")
def test_recorder_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], library: str
) -> None:
    examples = blocks("recorder.md")
    (code,) = (one for one in examples if (f"ncexp.integrations.{library}" if library else "FakeData") in one)
    assert len(examples) == 4
    if library:
        required(library)
    monkeypatch.chdir(tmp_path)
    run(code, "recorder.md")
    if library == "torchmetrics":
        assert "tensor(" in capsys.readouterr().out
    else:
        (saved,) = load(tmp_path / "outputs")
        assert (saved.state, saved.records[-1]["epoch"]) == (State.COMPLETED, 3 if library == "lightning" else 2)
