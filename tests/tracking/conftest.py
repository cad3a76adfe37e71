"""One server for all tests that only need a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tracking_stores import free_port, server


@dataclass(frozen=True)
class Server:
    """uri: its address; database: where its numbers are."""

    uri: str
    database: Path


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MLflow server over SQLite on loopback."""
    folder = tmp_path_factory.mktemp("server")
    with server(folder, free_port()) as uri:
        yield Server(uri, folder / "mlflow.db")
