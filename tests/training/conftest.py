"""What tests of a start from a file share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from started import QUIET, theirs
from support import Compose


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(theirs().state_dict(), tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.fixture
def begun(composed: Compose, file: Path) -> Callable[..., dict[str, Any]]:
    """begun(overrides) → the configuration of a small run that starts from the file."""
    return lambda *overrides: composed(*QUIET, f"architecture.weights={file}", *overrides)
