"""What the tests of tracking share: real servers on loopback, faulty ones, and every stored value read back by SQL."""

from __future__ import annotations

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

from ncexp.journal import Journal
from ncexp.tracking.content import is_sent

Points = dict[str, list[tuple[int, float, int]]]


def stored(database: Path) -> dict[str, Points]:
    """key → metric → sorted (step, value, milliseconds), of every run not deleted, as the store's tables have it."""
    rows = sqlite3.connect(database).execute(
        "select t.value, m.key, m.step, m.value, m.timestamp from metrics m join tags t on t.run_uuid = m.run_uuid "
        "join runs r on r.run_uuid = m.run_uuid where t.key = 'key' and r.lifecycle_stage = 'active'"
    )
    found: dict[str, Points] = {}
    for key, name, step, value, timestamp in rows:
        if not name.startswith(("final/", "best/", "zero/")):
            found.setdefault(key, {}).setdefault(name, []).append((step, value, timestamp))
    return {key: {name: sorted(points) for name, points in runs.items()} for key, runs in found.items()}


def journalled(paths: list[Path]) -> dict[str, Points]:
    """The same of the journals: what must be stored, no more and no less."""
    expected: dict[str, Points] = {}
    for path in paths:
        times = Journal(path).timestamps()
        points = expected.setdefault(path.name.rpartition("_")[2], {})
        for record in Journal(path).read():
            for name, value in record.items():
                if is_sent(name) and value == value:
                    epoch = int(record["epoch"])
                    points.setdefault(name, []).append((epoch, value, times[epoch]))
    return expected


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
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "a"),
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command,
        env={**os.environ, **quiet},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, 9)  # the group that was made for it above: uvicorn's workers are its children
        process.wait()


@contextmanager
def answering(status: int | None) -> Iterator[str]:
    """A server that answers every request with `status`; None: one that takes requests and never answers."""
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if status is None:
                release.wait(60)
                return
            self.send_response(status)
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
