"""A run's directory: its files by name, its state, and the lock that keeps two processes from training it at once."""

from __future__ import annotations

import fcntl
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
#: The folder beside the trainings of an outputs folder in which simulations lie, by the same rules.
SIMULATIONS = "simulations"


#: Exit codes: what a script sees of a run, and of the worst run of a command.
EXIT = {
    "completed": 0,
    "diverged": 3,
    "failed": 1,
    "busy": 4,
    "refused": 2,
    "lost": 5,
    "unknown": 5,
    "interrupted": 130,
}
#: The variable by which a sweep tells a run's process which job it belongs to.
JOB_VARIABLE = "NCEXP_JOB"


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
        self.code_diff = path / "code.diff"
        self.checkpoint = path / "checkpoint.pt"
        self.path_fit = path / "path_fit.json"
        self.figures = path / "figures"
        self.log = path / "run.log"
        self.tracking = path / "mlflow.json"
        self.status_path = path / "status.json"
        self._job = path / "job.json"
        self._lock = FileLock(path / ".lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and hold its lock, which the system releases when this process ends, however it ends.

        Raises Busy where another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=1)  # for an instant `actual_state` in another process may hold it
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
        status: dict[str, Any] | None = read_json(self.status_path)
        return status

    def state(self) -> str | None:
        """What it last said: running, completed, diverged, failed, interrupted; None for a run that never began."""
        status = self.status()
        return None if status is None else str(status["state"])

    def actual_state(self) -> str | None:
        """As `state`, but a run that says running while no living process holds its lock is "killed"."""
        state = self.state()
        return "killed" if state == "running" and not self._is_held() else state

    def _is_held(self) -> bool:
        """Does a process hold the lock? Opens the file only to read: a record may lie where we must not write."""
        path = Path(self._lock.lock_file)
        if not path.exists():
            return False
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def set_status(self, state: str, **details: Any) -> None:
        """Write status.json: the state, who and when, and `details` (epoch, message, ...)."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        previous = self.status() or {}
        started = previous.get("started", now)
        write_json(
            self.status_path,
            {
                "state": state,
                "started": started,
                "updated": now,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "job": os.environ.get(JOB_VARIABLE),
                **details,
            },
        )

    def job(self) -> str | None:
        """The last job that a sweep submitted for this run; None where there was none."""
        noted = read_json(self._job)
        return None if noted is None else str(noted["job"])

    def set_job(self, job: str) -> None:
        """Note the job that will train this run, so that any sweep that asks for the run finds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._job, {"job": job, "submitted": time.strftime("%Y-%m-%dT%H:%M:%S%z")})

    def clear(self) -> None:
        """Remove everything of an earlier training, so that the run begins anew; what MLflow was sent stays known."""
        for path in (*self.figures.glob("*"), *self.path.glob("*")):
            if path.is_file() and path.suffix != ".lock" and path.name not in (".lock", self.tracking.name):
                path.unlink()
