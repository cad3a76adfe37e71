"""A run's directory: its files by name, its state, and the lock that keeps two processes from training it at once."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ncexp.files import read_json, write_json
from ncexp.journal import Journal

#: States in which a run's result is there and nothing is left to train. A diverged run would diverge again.
FINISHED = ("completed", "diverged")


class Busy(RuntimeError):
    """Another process is training this run."""


class RunDirectory:
    """outputs/<name>_<key>/ and what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path)
        self.config = path / "config.yaml"
        self.facts = path / "facts.json"
        self.environment = path / "environment.json"
        self.checkpoint = path / "checkpoint.pt"
        self.path_fit = path / "path_fit.json"
        self.figures = path / "figures"
        self.log = path / "run.log"
        self.tracking = path / "mlflow.json"
        self._status = path / "status.json"
        self._lock = FileLock(path / ".lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and hold its lock, which the system releases when this process ends, however it ends.

        Raises Busy where another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            status = self.status() or {}
            raise Busy(
                f"{self.path}: expected a run that nobody trains, got one that process {status.get('pid')} on "
                f"{status.get('host')} is training. Wait for it, or stop that process."
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def status(self) -> dict[str, Any] | None:
        """status.json as last written; None before the first."""
        status: dict[str, Any] | None = read_json(self._status)
        return status

    def state(self) -> str | None:
        """running, completed, diverged, failed, interrupted; None for a run that never began."""
        status = self.status()
        return None if status is None else str(status["state"])

    def set_status(self, state: str, **details: Any) -> None:
        """Write status.json: the state, who and when, and `details` (epoch, message, ...)."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        previous = self.status() or {}
        started = previous.get("started", now)
        write_json(
            self._status,
            {
                "state": state,
                "started": started,
                "updated": now,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                **details,
            },
        )

    def clear(self) -> None:
        """Remove everything of an earlier training, so that the run begins anew."""
        for path in (*self.figures.glob("*"), *self.path.glob("*")):
            if path.is_file() and path.name != ".lock":
                path.unlink()
