"""Which tests one process of pytest-xdist runs: see conftest.Groups."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TESTS = Path(__file__).parent
QUICK, SLOW = "not slow", "slow"


@pytest.fixture
def conftest(pytestconfig: pytest.Config) -> Any:
    (plugin,) = (one for one in pytestconfig.pluginmanager.get_plugins() if hasattr(one, "Groups"))
    return plugin


def group(conftest: Any, nodeid: str, marks: str) -> str:
    scheduler = SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(markexpr=marks)))
    return str(conftest.Groups._split_scope(scheduler, nodeid))


def test_quick_tests_of_a_file_are_one_group_and_slow_ones_are_none(conftest: Any) -> None:
    one, other = "tests/record/test_runs.py::test_a[x::y]", "tests/record/test_runs.py::test_b"
    assert group(conftest, one, QUICK) == group(conftest, other, QUICK) == "tests/record/test_runs.py"
    assert group(conftest, one, SLOW) == one
    assert group(conftest, "tests/record/test_states.py::test_a", QUICK) != group(conftest, one, QUICK)


def test_slow_tests_of_the_cluster_are_one_group(conftest: Any) -> None:
    users = [path for path in (TESTS / "launching").glob("test_*.py") if 'usefixtures("slurm")' in path.read_text()]
    assert len(users) >= 3
    assert {group(conftest, f"tests/launching/{path.name}::test_a", SLOW) for path in users} == {"cluster"}
    assert {path.stem for path in TESTS.rglob("test_*.py")} >= conftest.TOGETHER.keys()
