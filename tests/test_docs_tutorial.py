"""docs/tutorial.md and the notebook made of it: one text, which runs from top to bottom."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest
import warm

from ncexp.record import State, load

DOCS = Path(__file__).parents[1] / "docs"
MAKER = runpy.run_path(str(DOCS / "tutorial_notebook.py"))
TEXT = (DOCS / "tutorial.md").read_text()
NOTEBOOK = json.loads((DOCS / "tutorial.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SOURCES = ["".join(cell["source"]) for cell in CODE]


def test_notebook_is_the_page() -> None:
    bare = [cell | {"outputs": []} if cell in CODE else cell for cell in NOTEBOOK["cells"]]
    assert MAKER["notebook"](TEXT) == NOTEBOOK | {"cells": bare}
    commands = [line for source in SOURCES if source.startswith("%%bash") for line in source.splitlines()]
    assert [line.split()[1] for line in commands if line.startswith("ncexp ")] == [
        "architecture=mlp", "-m", "report", "measure", "measure",
    ]  # fmt: skip
    assert TEXT.count("```sh") + TEXT.count("```python") == len(SOURCES)


def test_notebook_holds_what_each_cell_prints_and_nothing_of_a_machine() -> None:
    """Make it anew with: python docs/tutorial_notebook.py"""
    assert (DOCS / "tutorial.ipynb").stat().st_size < 60_000
    for cell in CODE:
        (output,) = cell["outputs"]
        printed = "".join(output["text"])
        assert printed.strip()
        assert not re.search(r"(^|[\s:='\"])/(?!/)\w+/|Traceback|Error:", printed), printed
    assert "report/report.html" in "".join("".join(cell["outputs"][0]["text"]) for cell in CODE)


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its three kinds of cells as Jupyter carries them out: %%bash, %%writefile, and Python in one namespace."""
    monkeypatch.chdir(tmp_path)
    warm.commands(programs := tmp_path.parent / "commands")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, object] = {}
    for source in SOURCES:
        first, _, rest = source.partition("\n")
        if first == "%%bash":
            done = subprocess.run(["bash", "-ec", rest], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{rest}\n{done.stdout}{done.stderr}"
        elif first.startswith("%%writefile "):
            (tmp_path / first.split()[1]).write_text(rest + "\n")
        else:
            exec(compile(source, "docs/tutorial.ipynb", "exec"), names)
    shown = capsys.readouterr().out
    assert 0 < float(shown.splitlines()[0]) < 1  # the robustness
    assert "cross_entropy" in shown
    runs = {run.name: run for run in load(tmp_path / "outputs")}
    assert len([name for name in runs if name.startswith("digits-mlp-")]) == 8
    assert all(run.state is State.COMPLETED for run in runs.values())
    measured = runs["my_training.data-my_network.make-mse_mean_checkpoints"]
    assert [record["epoch"] for record in measured.records] == list(range(1, 11))
    for figure in re.findall(r"`figures/(\w+\.png)`", TEXT):
        assert list(tmp_path.glob(f"outputs/digits-mlp-mse_mean_lr0.12_*/figures/{figure}")), figure
