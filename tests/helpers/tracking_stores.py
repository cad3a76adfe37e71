"""What the tests of tracking share: real servers on loopback, faulty ones, and every stored value read back by SQL."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ncexp.record import write_text

Points = dict[str, list[tuple[int, float, int]]]
#: Numbers that follow from those of the journals.
DERIVED = ("final/", "best/", "zero/", "exact/", "train/path_fit/")


def stored(database: Path, derived: bool = False) -> dict[str, Points]:
    """key → metric → sorted (step, value, milliseconds), of every run not deleted, as the store's tables have it."""
    rows = sqlite3.connect(database).execute(
        "select t.value, m.key, m.step, m.value, m.timestamp from metrics m join tags t on t.run_uuid = m.run_uuid "
        "join runs r on r.run_uuid = m.run_uuid where t.key = 'key' and r.lifecycle_stage = 'active'"
    )
    found: dict[str, Points] = {}
    for key, name, step, value, timestamp in rows:
        if name.startswith(DERIVED) is derived:
            found.setdefault(key, {}).setdefault(name, []).append((step, value, timestamp))
    return {key: {name: sorted(points) for name, points in runs.items()} for key, runs in found.items()}


def journalled(paths: list[Path], through: float = math.inf) -> dict[str, Points]:
    """The same of the journals' lines up to an epoch: what must be stored, no more and no less."""
    expected: dict[str, Points] = {}
    for path in paths:
        times = {line["epoch"]: line["timestamp_ms"] for line in _lines(path / "clock.jsonl")}
        points = expected.setdefault(path.name.rpartition("_")[2], {})
        for journal in (*path.glob("training.jsonl"), *sorted((path / "measurements").glob("*.jsonl"))):
            for line in _lines(journal):
                epoch = line.pop("epoch")
                for name, value in line.items():
                    if value is not None and epoch <= through:
                        stored_as = 1.7976931348623157e308 if value == "inf" else value  # how MLflow stores infinity
                        points.setdefault(_full_name(name, journal), []).append((epoch, stored_as, times[epoch]))
    return expected


def _full_name(name: str, journal: Path) -> str:
    """With the key in the family for all but the first of one analysis' sets of options."""
    analysis, _, key = journal.stem.rpartition("_")
    began = {path: json.loads(path.read_text())["began"] for path in journal.parent.glob(f"{analysis}_*.json")}
    if not analysis or began[journal.with_suffix(".json")] == min(began.values()):
        return name
    split, family, quantity = name.split("/")
    return f"{split}/{family}.{key}/{quantity}"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


_whole: dict[Path, dict[Path, list[str]]] = {}


def commit(path: Path, epoch: int) -> None:
    """Leave of a run's journals what a training has written after the commit of this epoch."""
    journals = [path / "training.jsonl", *(path / "measurements").glob("*.jsonl")]
    whole = _whole.setdefault(path, {journal: journal.read_text().splitlines(keepends=True) for journal in journals})
    for journal, lines in whole.items():
        write_text(journal, "".join(line for line in lines if json.loads(line)["epoch"] <= epoch))


def statuses(database: Path) -> list[tuple[str, str]]:
    """(MLflow's status, our state) of every run not deleted, sorted."""
    rows = sqlite3.connect(database).execute(
        "select r.status, t.value from runs r join tags t on t.run_uuid = r.run_uuid "
        "where t.key = 'state' and r.lifecycle_stage = 'active'"
    )
    return sorted(rows.fetchall())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """A real MLflow server over SQLite on loopback; killed outright, by its process id, at the end."""
    with server_and_group(folder, port) as (uri, _):
        yield uri


@contextmanager
def server_and_group(folder: Path, port: int) -> Iterator[tuple[str, int]]:
    """As `server`, with the id of its process group."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "a"),
    ]  # fmt: skip
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    unheard = subprocess.DEVNULL
    process = subprocess.Popen(command, env=quiet, start_new_session=True, stdout=unheard, stderr=unheard)
    uri = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=10)
                break
            except OSError:
                time.sleep(0.2)
        yield uri, process.pid
    finally:
        os.killpg(process.pid, 9)  # the group that was made for it above: uvicorn's workers are its children
        process.wait()


@contextmanager
def hanging_socket() -> Iterator[int]:
    """The port of a socket for which the system accepts connections, and nobody ever reads or writes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield listener.getsockname()[1]


@contextmanager
def faulty_server(status: int | None, healthy: bool = False, hung: list[str] | None = None) -> Iterator[str]:
    """A server that responds to every request with `status`; None: one that takes requests and never responds.

    healthy: but to whoever asks for its health it says that all is well. hung: gets the path of each request that has
    no response: how often a client waited, whatever a busy machine makes of the seconds.
    """
    unanswered = [] if hung is None else hung
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = 200 if healthy and self.path == "/health" else status
            if answer is None:
                unanswered.append(self.path)
                release.wait(600)
                return
            self.send_response(answer)
            self.end_headers()

        do_POST = do_PATCH = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}"
    finally:
        release.set()
        listener.shutdown()
        listener.server_close()
