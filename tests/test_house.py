"""The size of the house: what a reader passes from a command to what it is about, files, names of tests."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from support import SMALL

import ncexp
from ncexp.cli import main
from ncexp.training.optimizers import SGD

PACKAGE = str(Path(ncexp.__file__).parent)
#: From the command to `optimizer.step()`, and from `ncexp measure` to tr(Σ_W Σ_B⁺), itself counted.
MOST_TO_A_STEP, MOST_TO_A_FORMULA = 8, 10
MOST_LINES, LONGEST_NAME = 400, 70


def own_frames(owner: Any, name: str, *words: str) -> list[str]:
    """Our own functions on the stack when the command first calls `owner.name`, outermost first."""
    found: list[list[str]] = []
    original = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        stack = [one for one in traceback.extract_stack() if one.filename.startswith(PACKAGE)]
        found.append([f"{one.filename.removeprefix(PACKAGE)}:{one.name}" for one in stack])
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, watched)
        patch.setattr(sys, "argv", ["ncexp", *words])
        assert main() == 0
    return found[0]


@pytest.mark.slow
def test_few_frames_lead_to_a_step_and_to_a_formula(tmp_path: Path) -> None:
    chosen = ["device=cpu", f"outputs={tmp_path}"]
    training = [*SMALL, "epochs=1", "tracking.enabled=false", "analysis=[]", *chosen]
    to_step = own_frames(SGD, "step", *training)
    assert len(to_step) <= MOST_TO_A_STEP, to_step
    formulas = sys.modules["ncexp.collapse.neural_collapse"]
    to_formula = own_frames(formulas, "within_between_trace", "measure", str(tmp_path), "analysis=[collapse]", *chosen)
    assert len([*to_formula, "within_between_trace"]) <= MOST_TO_A_FORMULA, to_formula


def test_files_are_short_and_names_of_tests_too() -> None:
    files = [*Path(PACKAGE).rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    lines = {path.name: path.read_text().count("\n") for path in files}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    names = [name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())]
    assert [name for name in names if len(name) > LONGEST_NAME] == []
