"""One empty store, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncexp.tracking import prepare, tracking_uri


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with MLflow's tables and nothing in them."""
    folder = tmp_path_factory.mktemp("store")
    prepare(tracking_uri(None, folder), [], folder)
    return folder / "mlflow.db"
