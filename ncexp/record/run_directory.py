"""Directories in which work keeps its state, log and lock: a run's, with all its files by name, and a measuring's."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ncexp.record.contents import read_identity, read_job, read_status
from ncexp.record.files import DamagedFile, acquire, open_file, refuse_links, remove_unfinished, set_aside, write_json
from ncexp.record.journal import Clock, Journal
from ncexp.record.states import State

#: The variable by which a sweep names to a run's process the job that it belongs to.
JOB_VARIABLE = "NCEXP_JOB"
IDENTITY = "identity.json"


class Busy(RuntimeError):
    """Another process works on this directory."""


def name_and_key(path: Path) -> tuple[str, str]:
    """``digits-mlp-mse_0123456789`` → its two parts.

    Of a directory that somebody named otherwise, for a loop of their own, the whole name, and as key the beginning of
    the run's identity: five digits of the hash of what is known of the loop, and five of a random word, as what
    determines the weights is known to the loop alone.
    """
    if match := re.fullmatch(r"(.*)_([0-9a-f]{10})", path.name):
        return match[1], match[2]
    return path.name, (read_identity(path / IDENTITY) or "")[:10]


@contextmanager
def _held(lock: FileLock, timeout: float, busy: Callable[[], str]) -> Iterator[None]:
    """Hold the lock; raises Busy with these words where another process holds it."""
    try:
        acquire(lock, timeout)
    except Timeout:
        raise Busy(busy()) from None
    try:
        yield
    finally:
        lock.release()


class TaskDirectory:
    """What training, measuring and simulating have in common: status.json, run.log, job.json and a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "run.log"
        self.status_path = path / "status.json"
        self._job = path / "job.json"
        self._lock = FileLock(path / ".lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory and hold its lock, which the system releases when this process ends, however it ends.

        Raises Busy where another process holds it; UnusableFolder; DamagedFile where it leads elsewhere by a link.
        """
        self.refuse_links()
        with _held(self._lock, 1, self._busy):  # for an instant `actual_state` in another process may hold it
            for folder in (self.path, *(path for path in self.path.iterdir() if path.is_dir())):
                remove_unfinished(folder)
            yield

    def refuse_links(self) -> None:
        """Raises DamagedFile where something of the directory, or it itself, is a link: what one writes lands there."""
        inside = (os.path.join(root, name) for root, *names in os.walk(self.path) for name in chain(*names))
        refuse_links(self.path.parent, [self.path, *map(Path, filter(os.path.islink, inside))])

    def refuse_if_held(self) -> None:
        """Raises Busy where another process holds the lock; nothing is made or held."""
        if self.is_held():
            raise Busy(self._busy())

    def _busy(self) -> str:
        status = self.noted()
        return (
            f"{self.path}: expected a directory that no process works on, got one that process "
            f"{status.get('pid')} on {status.get('host')} holds. Wait for it, or stop that process."
        )

    def status(self) -> dict[str, Any] | None:
        """status.json as last written; None before the first. Raises DamagedFile for what is no status."""
        return read_status(self.status_path)

    def noted(self) -> dict[str, Any]:
        """What status.json says, for people: nothing before the first; of a damaged one, as its message, that it is."""
        try:
            return self.status() or {}
        except DamagedFile as error:
            return {"message": str(error)}

    def state(self) -> State | None:
        """What status.json says; None before the first."""
        status = self.status()
        return None if status is None else State(status["state"])

    def actual_state(self) -> State | None:
        """As `state`, but killed where it says running and no living process holds the lock."""
        state = self.state()
        return State.KILLED if state is State.RUNNING and not self.is_held() else state

    def is_held(self) -> bool:
        """Whether a process holds the lock. Opens the file only to read: it may lie where we must not write."""
        try:
            with open_file(Path(self._lock.lock_file)) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except (OSError, DamagedFile):  # no such file, or one, or a file system, that nobody can hold
            return False
        return False

    def set_status(self, state: State, **details: Any) -> None:
        """Write status.json: the state, who and when, and `details` (epoch, message, ...).

        A damaged one is set aside.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        try:
            started = (self.status() or {}).get("started", now)
        except DamagedFile:
            started = now
            set_aside(self.status_path)
        here = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get(JOB_VARIABLE)}
        write_json(self.status_path, {"state": state, "started": started, "updated": now, **here, **details})

    def job(self) -> str | None:
        """The last job that a sweep submitted for it; None where there was none. Raises DamagedFile."""
        return read_job(self._job).get("job")

    def set_job(self, job: str, submission: str | None = None) -> None:
        """Note the job that will work on it, so that any sweep that asks for it finds the job.

        submission: the name by which the queue knows the job as this one; numbers of jobs are used again.
        """
        submitted = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        write_json(self._job, {"job": job, "submission": submission, "submitted": submitted})

    def submission(self) -> str | None:
        """The name of the submission that `job` came from; None for one that is not a cluster's."""
        return read_job(self._job).get("submission")


class RunDirectory(TaskDirectory):
    """outputs/<name>_<key>/ and what lies in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.config = path / "config.yaml"
        self.facts = path / "facts.json"
        self.environment = path / "environment.json"
        self.code_diff = path / "code.diff"
        self.identity_path = path / IDENTITY
        self.training = Journal(path / "training.jsonl")
        self.clock = Clock(path / "clock.jsonl")
        self.measurements = path / "measurements"
        self.snapshots = path / "snapshots"
        self.checkpoints = path / "checkpoints"
        self.resume = self.checkpoints / "resume.safetensors"
        self.resume_before = self.checkpoints / "resume_before.safetensors"
        self.origin = path / "origin.json"
        self.path_fit = path / "path_fit.json"
        self.figures = path / "figures"
        self.tracking = path / "mlflow.json"

    @property
    def key(self) -> str:
        """The training key."""
        return name_and_key(self.path)[1]

    def snapshot(self, epoch: int) -> Path:
        """Where the snapshot of this epoch lies, if it is kept."""
        return self.snapshots / f"epoch_{epoch:04d}.safetensors"

    def checkpoint(self, epoch: int) -> Path:
        """Where the weights of this epoch lie, if they are kept."""
        return self.checkpoints / f"epoch_{epoch:04d}.safetensors"

    def kept_snapshots(self) -> list[int]:
        """Epochs whose snapshot is on the disk."""
        return _epochs_of_files(self.snapshots)

    def kept_checkpoints(self) -> list[int]:
        """Epochs whose weights are on the disk."""
        return _epochs_of_files(self.checkpoints)

    def remove_resume_files(self) -> None:
        """Remove what a training that has ended needs no more."""
        for path in (self.resume_before, self.resume, *self.checkpoints.glob("rows_*.safetensors")):
            path.unlink(missing_ok=True)

    def counted_rows(self) -> dict[str, int]:
        """How many rows each journal had when the run ended, as status.json says. Raises DamagedFile.

        Empty where it does not say so: it is a Recorder's, or of version 0.2, which noted epochs in words.
        """
        noted = (self.status() or {}).get("record", {})
        return {place: count for place, count in noted.items() if type(count) is int}

    def journals(self) -> list[Journal]:
        """Those of all measurements."""
        return [Journal(path) for path in sorted(self.measurements.glob("[!.]*.jsonl"))]

    def identity(self, settings: str = "") -> str:
        """A random word made when the run began, by which MLflow knows it wherever its directory is moved.

        settings: a hash of what is known of a loop of somebody's own; the word begins with five digits of it.

        Raises DamagedFile: with another word the run would be in MLflow twice.
        """
        word = read_identity(self.identity_path)
        if word is None:
            word = settings[:5] + secrets.token_hex(8)
            write_json(self.identity_path, {"id": word})
        return word

    @contextmanager
    def locked_measurements(self) -> Iterator[None]:
        """Be the only process that measures this stored run. Raises Busy where another one does; UnusableFolder."""
        busy = (
            f"{self.path}: expected a run that no process measures, got one that another process measures. Wait for "
            "it; the same command then does what is left."
        )
        with _held(FileLock(self.path / ".measure.lock"), 0, lambda: busy):
            remove_unfinished(self.measurements)
            yield

    def clear(self) -> None:
        """Remove everything of an earlier training, so that the run begins anew; what MLflow was sent stays known.

        Raises Busy while a process measures the run: its numbers would be of the earlier training.
        """
        with self.locked_measurements():
            for path in self.path.glob("*"):
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.suffix != ".lock" and path.name not in (".lock", self.tracking.name):
                    path.unlink()


def _epochs_of_files(folder: Path) -> list[int]:
    """The epochs whose file lies in a folder of snapshots or weights, sorted."""
    found = (
        re.fullmatch(r"epoch_([0-9]{4}|[1-9][0-9]{4,8})\.safetensors", path.name) for path in folder.glob("epoch_*")
    )
    return sorted(int(match[1]) for match in found if match)
