"""An MLflow store that is whole or not there, each experiment in it made once; and MLflow's client."""

from __future__ import annotations

import glob
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from packaging.version import Version

from ncexp.config import ConfigError
from ncexp.record import DamagedFile
from ncexp.tracking.address import (
    ARTIFACTS,
    CALL_S,
    NOT_FROM_JOBS,
    OUR_PLACE,
    RESPONSE_S,
    SQLITE,
    check_place,
    check_uri,
    may_write,
    responds,
    store_file,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: A call to a server that hangs ends after CALL_S, not after MLflow's default four minutes. The journals make giving up
#: safe.
CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{CALL_S:.0f}",
}


class Unreachable(ConnectionError):
    """A store whose server does not respond."""


def connect(uri: str) -> MlflowClient:
    """A client of that store, which is there afterwards.

    Raises ConfigError for a URI that no store has; RuntimeError where this process may not write it, or the file is no
    store of MLflow's; Unreachable.
    """
    check_uri(uri)
    if not may_write(uri):
        raise RuntimeError(f"{uri}: {NOT_FROM_JOBS}.")
    if not responds(uri):
        raise Unreachable(f"{uri}: expected a server that responds within {RESPONSE_S:.0f} s, got none. Start it.")
    client = import_client()
    if uri.startswith(SQLITE):
        if (path := store_file(uri)).is_symlink():  # whoever made the link chose what is written
            raise ConfigError(
                f"{path}: expected a store, got a link to {path.resolve()}. Name that: --uri, tracking.uri."
            )
        with only_writer(uri):
            _create_store(path)
            _relocate(path)
            return _opened(client, uri)
    return client(uri)


def _opened(client: type[MlflowClient], uri: str) -> MlflowClient:
    """A client of an SQLite store, in which the newest MLflow that opened it is noted.

    Raises ConfigError for a store whose tables a newer one has changed, on which MLflow itself may begin to work.
    """
    import mlflow

    own, path = Version(mlflow.__version__), store_file(uri)
    with closing(sqlite3.connect(path, timeout=20)) as database:
        (noted,) = database.execute("pragma user_version").fetchone()
        (tables,) = database.execute("select version_num from alembic_version").fetchone()
        if not any(Path(mlflow.__file__).parent.glob(f"store/db_migrations/versions/{glob.escape(tables)}_*")):
            newest = Version(f"{noted // 10**6}.{noted // 1000 % 1000}.{noted % 1000}")
            by, wanted = (f"MLflow {newest}", f">={newest}") if newest > own else ("a newer MLflow", "")
            raise ConfigError(
                f"{path}: expected a store with the tables of MLflow {own}, got those of {by}, which has opened it. "
                f"Install that: `pip install -U 'mlflow{wanted}'`."
            )
        opened = client(uri)
        if (number := own.major * 10**6 + own.minor * 1000 + own.micro) > noted:
            database.execute(f"pragma user_version = {number}")
    return opened


def import_client() -> type[MlflowClient]:
    """MLflow's client, with our settings; the first time, seconds of processor time."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    return MlflowClient


def only_writer(uri: str) -> AbstractContextManager[Any]:
    """SQLite takes one writer: the processes of this machine wait here for each other. Other stores take several."""
    return FileLock(store_file(uri).parent / ".mlflow.lock") if uri.startswith(SQLITE) else nullcontext()


def experiment_id(client: MlflowClient, uri: str, name: str, outputs: Path) -> str:
    """The experiment of that name, made where it is missing; the lock keeps two starters from making two.

    Raises ConfigError where somebody deleted it in MLflow, which keeps the name: with how to restore it.
    """
    with FileLock(outputs / ".mlflow_experiment.lock"):
        found = client.get_experiment_by_name(name)
        if found is None:
            return str(client.create_experiment(name, artifact_location=_artifacts(uri, name, outputs)))
    if found.lifecycle_stage == "deleted":
        raise ConfigError(
            f"tracking.experiment: expected one that is there, got {name!r}, which was deleted in MLflow. Restore it: "
            f"`MLFLOW_TRACKING_URI={shlex.quote(uri)} mlflow experiments restore --experiment-id "
            f"{found.experiment_id}`, or name another: tracking.experiment=NAME."
        )
    check_place(uri, found.artifact_location)
    return str(found.experiment_id)


def prepare(uri: str, experiments: Iterable[str], outputs: Path) -> None:
    """Make the store and the experiments before any worker starts; for whoever submits a sweep.

    Raises what `connect` and `experiment_id` raise, and whatever MLflow raises where the store fails; at the latest
    15 s after its server last responded.
    """
    outputs.mkdir(parents=True, exist_ok=True)
    client = connect(uri)
    with only_writer(uri):
        for name in experiments:
            experiment_id(client, uri, name, outputs)


def describe(error: BaseException) -> str:
    """A failure in one line for people: ours whole, others' by class and beginning."""
    line = " ".join(str(error).split())
    return line if isinstance(error, ConfigError | DamagedFile) else f"{type(error).__name__}: {line[:300]}"


def _artifacts(uri: str, experiment: str, outputs: Path) -> str | None:
    """Where an experiment's files lie: the server knows, else beside the SQLite file, else in the outputs folder."""
    if uri.startswith("http"):
        return None
    beside = store_file(uri).parent if uri.startswith(SQLITE) else outputs.absolute()
    return (beside / ARTIFACTS / re.sub(r"[^\w-]", "_", experiment)).as_uri()


def _create_store(path: Path) -> None:
    """Make an SQLite store with MLflow's tables, whole or not at all: a kill amid its migrations would leave a ruin."""
    if path.exists():
        return
    from mlflow.tracking import MlflowClient

    for left in path.parent.glob(f".{path.name}.*.*"):  # of a process that was killed: this one holds the store's lock
        left.unlink()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")  # MLflow keeps an engine for each name
    MlflowClient(f"{SQLITE}{temporary}").search_experiments(max_results=1)
    temporary.replace(path)


def _relocate(path: Path) -> None:
    """Let a store whose folder was moved or copied know where its files lie now: MLflow keeps absolute addresses.

    Raises RuntimeError where the file is no store of MLflow's, which MLflow itself would try for minutes.
    """

    def moved(place: str) -> str:
        found = OUR_PLACE.fullmatch(place)
        return place if found is None else f"{path.parent.as_uri()}/{ARTIFACTS}{found[1]}"

    try:
        with closing(sqlite3.connect(path, timeout=20)) as database, database:
            database.create_function("moved", 1, moved, deterministic=True)
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                elsewhere = f"{column} like 'file:%' and {column} != moved({column})"
                if database.execute(f"select 1 from {table} where {elsewhere} limit 1").fetchone():
                    database.execute(f"update {table} set {column} = moved({column}) where {elsewhere}")
    except sqlite3.DatabaseError as error:
        raise RuntimeError(
            f"{path}: expected MLflow's SQLite store, got {error}. Set the file aside; `ncexp sync` fills a new one."
        ) from None
