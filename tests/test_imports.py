"""Imports go down only, as the design says; read from the source, nothing is imported."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ncexp"

#: From the top down. A module may import those of its own rank and below.
RANKS = [
    ["__main__"],
    ["command_line", "commands", "frozen_run"],
    ["main"],
    ["assembly", "report", "launching", "simulations"],
    ["tracking", "figures", "theory", "summary", "progress", "training", "analyses"],
    ["run_record"],
    ["run_directory", "journal", "checkpoint", "ridge", "step_log", "precision", "memory"],
    ["datasets", "architectures", "losses", "optimizers", "robustness", "interruption", "distributed"],
    ["config", "files", "provenance"],
    ["collapse"],
]
ONLY = {"mlflow": {"tracking"}, "matplotlib": {"figures", "report"}, "hydra": {"command_line", "commands", "launching"}}
#: What the pure mathematics may import besides itself.
PURE = {"torch", "scipy"}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _unit(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    ranks = {name: rank for rank, names in enumerate(RANKS) for name in names}
    unit = _unit(path)
    assert unit in ranks, f"{unit} has no rank: say in RANKS where it stands"
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "ncexp" and len(parts) > 1 and parts[1] in ranks:
            assert ranks[parts[1]] >= ranks[unit], f"{unit} imports {name}, which stands above it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_have_one_door(path: Path) -> None:
    for name in _imports(path):
        library = name.split(".")[0]
        assert _unit(path) in ONLY.get(library, {_unit(path)}), f"{path.name} imports {library}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "collapse").glob("*.py")), ids=lambda path: path.name)
def test_collapse_is_pure(path: Path) -> None:
    import sys

    for name in _imports(path):
        library = name.split(".")[0]
        allowed = library in PURE or library in sys.stdlib_module_names or name.startswith("ncexp.collapse")
        assert allowed, f"collapse/{path.name} imports {name}"
