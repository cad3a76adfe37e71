"""One empty store, made once, and one server for all tests that only need a server."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tracking_stores import free_port, server

from ncexp.tracking import prepare, tracking_uri


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with MLflow's tables and nothing in them, made once for all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with (folder / "store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "mlflow.db").exists():
            prepare(tracking_uri(None, folder), [], folder)
    return folder / "mlflow.db"


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
