"""The table of optimizers in docs/optimizers.md against what its script finds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "optimizers.md").read_text()


def script() -> Any:
    spec = importlib.util.spec_from_file_location("optimizers_table", DOCS / "optimizers_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLE = script()
LABEL = r"^\| `(?:optimizer=|torch\.optim\.)(\w+)` \| (?:trains|refused)"
ROWS = {name: line for line in PAGE.splitlines() for name in re.findall(LABEL, line)}
NAMES = [*TABLE.OURS, *(name for name in TABLE.torchs() if name != "Optimizer")]


def test_table_has_every_public_optimizer_of_the_torch_it_names() -> None:
    (version,) = re.findall(r"of torch (\d+\.\d+)", PAGE)
    if not torch.__version__.startswith(f"{version}."):
        pytest.skip(f"the table is of torch {version}")
    assert [*ROWS] == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name in ROWS])
def test_row_of_the_table_is_what_its_command_prints(name: str) -> None:
    assert TABLE.row_of(name) == ROWS[name]
