"""Where MLflow keeps what it is sent: which store, made whole or not at all, with each experiment made once."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: A dead server costs a call seconds, not MLflow's default four minutes; the journal makes giving up safe.
CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
SQLITE = "sqlite:///"


def tracking_uri(uri: str | None, outputs: Path) -> str:
    """The configured URI, or the embedded store: SQLite in the outputs folder, absolute."""
    return uri or f"{SQLITE}{outputs.absolute() / 'mlflow.db'}"


def not_from_here(uri: str) -> str | None:
    """Why this process must not write that store; None where it may.

    Jobs of a cluster share SQLite's file over a network, where its locks do not hold: they leave it to the side that
    submitted them.
    """
    if uri.startswith(SQLITE) and "SLURM_JOB_ID" in os.environ:
        return "a cluster job does not write an SQLite store; `ncexp sync` on the submitting machine does"
    return None


def connect(uri: str) -> MlflowClient:
    """A client of that store, which is there afterwards. Raises RuntimeError where `not_from_here` says why."""
    if reason := not_from_here(uri):
        raise RuntimeError(f"{uri}: {reason}.")
    client = import_client()
    if uri.startswith(SQLITE):
        with only_writer(uri):
            _create_store(Path(uri.removeprefix(SQLITE)))
    return client(uri)


def import_client() -> type[MlflowClient]:
    """MLflow's client, with our settings; the first time, seconds of processor time."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    return MlflowClient


def answers(server: str) -> bool:
    """Does an MLflow server answer at that address, soon?"""
    try:
        with urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=5):
            return True
    except OSError:
        return False


def only_writer(uri: str) -> AbstractContextManager[Any]:
    """SQLite takes one writer; the processes of this machine queue up here. Others' stores know what to do."""
    return FileLock(_beside(uri) / ".mlflow.lock") if uri.startswith(SQLITE) else nullcontext()


def experiment_id(client: MlflowClient, uri: str, name: str, outputs: Path) -> str:
    """The experiment of that name, made where it is missing; the lock keeps two starters from making two."""
    if existing := client.get_experiment_by_name(name):
        return str(existing.experiment_id)
    with FileLock(outputs / ".mlflow_experiment.lock"):
        if existing := client.get_experiment_by_name(name):
            return str(existing.experiment_id)
        artifacts = None if uri.startswith("http") else (outputs.absolute() / "mlflow_artifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=artifacts))


def prepare(uri: str, experiments: Iterable[str], outputs: Path) -> None:
    """Make the store and the experiments before any worker starts; for whoever submits a sweep.

    Raises whatever MLflow raises where the store does not answer.
    """
    outputs.mkdir(parents=True, exist_ok=True)
    client = connect(uri)
    with only_writer(uri):
        for name in experiments:
            experiment_id(client, uri, name, outputs)


def _beside(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE)).parent


def _create_store(path: Path) -> None:
    """Make an SQLite store with MLflow's tables, whole or not at all: a kill amid its migrations would leave a ruin."""
    if path.exists():
        return
    from mlflow.tracking import MlflowClient

    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")  # MLflow keeps an engine for each name
    MlflowClient(f"{SQLITE}{temporary}").search_experiments(max_results=1)
    temporary.replace(path)
