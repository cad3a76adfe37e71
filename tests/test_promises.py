"""docs/promises.md: the tests that it names are there, and of tables whose rows are promises it has every row."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
#: Page → the first words of the heads of those of its tables whose rows are promises.
PROMISING = {
    "cluster.md": {"What happens"},
    "search.md": {"What happens"},
    "records.md": {"what is found"},
    "security.md": {"what", "command"},
}
#: A row's tests.
TESTS = r"`tests/\S+::test_\w+`(<br>`tests/\S+::test_\w+`)*"
#: Rows that say `none`: a test for one of them, and this becomes less; more it must not become.
UNHELD = 30


def tables(page: str) -> list[list[list[str]]]:
    """Every table of a page: its rows of cells, the head first."""
    found: list[list[list[str]]] = []
    before = ""
    for line in (REPOSITORY / "docs" / page).read_text().splitlines():
        if line.startswith("|"):
            found += [] if before.startswith("|") else [[]]
            found[-1].append([cell.strip() for cell in line[1:].rstrip(" |").split("|")])
        before = line
    return [[head, *rows] for head, _, *rows in found]


#: Page → its rows: a promise, and what holds it.
ROWS = {head[0]: rows for head, *rows in tables("promises.md")}


@cache
def functions(path: str) -> set[str]:
    return {node.name for node in ast.parse((REPOSITORY / path).read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.slow
def test_every_test_that_holds_a_promise_is_there() -> None:
    named = [name.split("::") for rows in ROWS.values() for _, tests in rows for name in re.findall("`(.*?)`", tests)]
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


@pytest.mark.parametrize("page", PROMISING)
def test_every_row_of_a_promising_table_is_listed_in_its_order(page: str) -> None:
    found = [rows for head, *rows in tables(page) if head[0] in PROMISING[page]]
    assert len(found) == len(PROMISING[page])
    promised = [row[0] for rows in found for row in rows]
    assert [promise for promise, _ in ROWS[page] if promise in promised] == promised


def test_every_promise_has_tests_but_for_those_that_nothing_holds() -> None:
    without = [tests for rows in ROWS.values() for _, tests in rows if not re.fullmatch(TESTS, tests)]
    assert without == ["none"] * UNHELD
