"""What is said where a framework is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.mark.parametrize("package", ["lightning", "transformers", "torchmetrics"])
def test_framework_that_is_missing_names_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"ncexp.integrations.{package}", raising=False)
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"pip install 'ncexp\[{package}\]'"):
        importlib.import_module(f"ncexp.integrations.{package}")
