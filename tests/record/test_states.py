"""Every fact about a state stands in one place, and agrees with the others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ncexp
from ncexp.record import State, exit_code, format_counts

PACKAGE = Path(ncexp.__file__).parent
#: MLflow's own words (mlflow.entities.RunStatus).
MLFLOW = {"RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"}


def test_each_state_has_its_properties() -> None:
    for state in State:
        assert state.mlflow in MLFLOW
        assert 0 <= state.exit_code <= 130
        assert not (state.final and state.active)
        assert State(str(state)) is state
    assert [state for state in State if state.final] == [State.COMPLETED, State.DIVERGED]
    assert all(state.mlflow == "FINISHED" for state in State if state.final)


def test_exit_code_is_zero_only_where_all_is_well() -> None:
    well = [State.COMPLETED, State.PRUNED, State.QUEUED, State.NEW]
    assert [state for state in State if state.exit_code == 0] == well
    assert exit_code([]) == exit_code(well) == 0
    assert exit_code([State.COMPLETED, State.DIVERGED, State.REFUSED]) == State.DIVERGED.exit_code == 3
    assert exit_code([State.INTERRUPTED, State.FAILED]) == 130
    assert format_counts(["queued", "completed", "failed", "completed"]) == "2 completed, 1 failed, 1 queued"
    assert format_counts([]) == "none"


@pytest.mark.slow
def test_words_for_mlflow_stand_in_one_file() -> None:
    """No other file maps states to anything; the upload reads whether MLflow has a run as under way."""
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "record" / "states.py":
            words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            assert not words & {"FINISHED", "KILLED"}, path
