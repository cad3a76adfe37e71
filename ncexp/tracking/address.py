"""Which MLflow store a run belongs to, whether it may be written from here, and whether it responds."""

from __future__ import annotations

import os
import re
import shlex
import socket
import threading
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from ncexp.config import ConfigError
from ncexp.config.measurement import SIMULATIONS

SQLITE = "sqlite:///"
#: What mlflow.json calls the store in the outputs folder, wherever that folder is moved.
EMBEDDED = "embedded"
#: Where `ncexp ui` shows a store, unless another port is asked for. The host is a name of this machine that browsers
#: know (RFC 6761): under localhost itself MLflow opens its assistant over a third of the page.
UI_PORT, UI_HOST = 5000, "ncexp.localhost"
UI_ADDRESS = f"http://{UI_HOST}:{UI_PORT}"
#: With this in its address a page is MLflow's for trainings; without, the one for language models.
OF_TRAININGS = "workflowType=machine_learning"
#: Schemes that MLflow takes for a store, with the port of each where the URI has none.
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
#: How long a server may take to say that it is there, and to respond to a call; together the bound after which it is
#: given up: before a sweep, in `ncexp sync`, and at a run's end.
RESPONSE_S, CALL_S = 5.0, 10.0
BOUND_S = RESPONSE_S + CALL_S
#: The folder of all files that runs have in a store, beside an SQLite store's file.
ARTIFACTS = "mlflow_artifacts"
#: The place of an experiment's files, or of a run's, as we choose them; group 1: what does not change in a move.
OUR_PLACE = re.compile(rf"file:///(?:.*/)?{ARTIFACTS}(/(?:[A-Za-z0-9_-]|%[89A-F][0-9A-F])+(?:/[0-9a-f]+/artifacts)?)")
#: The variables by which people name a store, and the place of a server's files, to MLflow.
URI_VARIABLE, PLACE_VARIABLE = "MLFLOW_TRACKING_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"
#: What is said where `may_write` is False.
NOT_FROM_JOBS = "a cluster job does not write an SQLite store; `ncexp sync` on the submitting machine does"
#: PostgreSQL's SSLRequest: to it a server says S or N before anything else.
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")


def check_uri(uri: str | None) -> None:
    """Raises ConfigError for a tracking URI that no MLflow store can have; None is the embedded store."""
    if uri is None:
        return
    try:
        parts = urlsplit(uri)
        served = bool(parts.hostname or "host=" in parts.query) and parts.port != 0
        usable = served and parts.scheme.partition("+")[0] in PORTS
    except ValueError:  # of a port that is no number
        usable = False
    if not usable and not (uri.startswith(SQLITE) and uri != SQLITE):
        raise ConfigError(
            f"tracking.uri: expected http://HOST:PORT, sqlite:///FILE or the URI of a database, got {uri!r}. "
            "Name a server, or leave it out: null is SQLite under outputs."
        )


def sync_command(uri: str, runs: Sequence[Path]) -> str:
    """The command that sends a run, or the folder of several, to that store."""
    outputs = outputs_of(runs[0])
    chosen = "" if uri == tracking_uri(None, outputs) else f"--uri {shlex.quote(uri)} "
    return f"ncexp sync {chosen}{shlex.quote(str(runs[0] if len(runs) == 1 else outputs))}"


def outputs_of(directory: Path) -> Path:
    """The outputs folder in which a run directory lies; a simulation's lies one level deeper."""
    folder = directory.absolute().parent
    return folder.parent if folder.name == SIMULATIONS else folder


def tracking_uri(uri: str | None, outputs: Path) -> str:
    """The configured URI, or the embedded store: SQLite in the outputs folder, absolute."""
    return uri or f"{SQLITE}{outputs.absolute() / 'mlflow.db'}"


def store_name(uri: str, outputs: Path) -> str:
    """What mlflow.json calls a store: its URI, or, so that no path is in there, the word for the embedded one."""
    return EMBEDDED if uri == tracking_uri(None, outputs) else uri


def refuse_unnamed(uri: str, outputs: Path, named: Collection[str | None]) -> None:
    """Raises ConfigError for a store that a file of a run names, and no person: MLflow's client would hand it the
    passwords of the environment.

    named: the addresses that the caller was given; beside them the environment's, and the store in `outputs`.
    """
    if uri not in (tracking_uri(None, outputs), os.environ.get(URI_VARIABLE), *named):
        raise ConfigError(
            f"tracking.uri: expected a store that you name, got {uri}, which only the run's config.yaml names. If it "
            f"is yours, set {URI_VARIABLE} to it, or `ncexp sync --uri {shlex.quote(uri)} ...`."
        )


def check_place(uri: str, place: str) -> None:
    """Raises ConfigError where a store says that the files of a run lie at a place which is not its own.

    Its own are those that we chose, of an SQLite store beside its file, and those that a server hands on itself. The
    environment may name another.
    """
    ours = file_at(place) if OUR_PLACE.fullmatch(place) else None
    root = os.environ.get(PLACE_VARIABLE, "").rstrip("/")
    own = bool(root) and place.startswith(f"{root}/") and ".." not in unquote(place).split("/")
    if uri.startswith(SQLITE):
        own |= ours is not None and ours.resolve().is_relative_to(store_file(uri).parent.resolve() / ARTIFACTS)
    elif uri.startswith("http"):
        scheme, server, *_ = urlsplit(place)
        own |= ours is not None or (scheme == "mlflow-artifacts" and server in ("", urlsplit(uri).netloc))
    else:
        own |= ours is not None
    if not own:
        raise ConfigError(
            f"{uri}: expected a store that keeps its files itself, got {place} as their place. If it is yours, set "
            f"{PLACE_VARIABLE} to it; or name another experiment: tracking.experiment=NAME."
        )


def file_at(place: str) -> Path | None:
    """The folder of a file: address; None where a server has the files."""
    parts = urlsplit(place)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def store_file(uri: str) -> Path:
    """The file of an SQLite store."""
    return Path(uri.removeprefix(SQLITE)).absolute()


def experiment_name(raw: Mapping[str, Any]) -> str:
    """The configured name, else that of the dataset, or of the simulation."""
    return str(raw["tracking"]["experiment"] or (raw["simulation"] if "simulation" in raw else raw["dataset"])["name"])


def may_write(uri: str) -> bool:
    """Whether this process may write that store: jobs of a cluster share SQLite's file over a network, where its locks
    do not hold.
    """
    return not (uri.startswith(SQLITE) and "SLURM_JOB_ID" in os.environ)


def responds(uri: str) -> bool:
    """Whether the server of that store is there, known within RESPONSE_S; True for a store that is a file."""
    parts = urlsplit(uri)
    if not parts.hostname:
        return True
    found: list[bool] = []
    # A name that cannot be looked up takes its own time: no time limit of a socket bounds it.
    asking = threading.Thread(target=lambda: found.append(_responds(uri)), daemon=True)
    asking.start()
    asking.join(RESPONSE_S)
    return bool(found) and found[0]


def _responds(uri: str) -> bool:
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    try:
        if kind.startswith("http"):
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=RESPONSE_S).close()
            return True
        with socket.create_connection((str(parts.hostname), parts.port or PORTS[kind]), RESPONSE_S) as connection:
            if kind == "postgresql":
                connection.sendall(_SSL_REQUEST)
            # A system accepts connections for a server that hangs, too; MySQL's speaks first.
            return bool(connection.recv(1)) if kind in ("postgresql", "mysql") else True
    except HTTPError:
        return True  # whatever it has against this address, it is there
    except OSError:
        return False
