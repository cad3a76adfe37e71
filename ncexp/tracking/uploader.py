"""The process that sends while runs train, so that no training step waits for a store, a network or Python's lock.

One process, of low priority, serves all runs that its parent trains one after the other, as MLflow takes seconds to
import. Over a pipe it reads, a JSON line each, which run begins, that more is on record and checkpointed, and that the
run has ended; then it sends the rest and writes a line back. When the pipe closes amid a run, the run was killed, and
MLflow gets that state, too.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from rich.console import Console

from ncexp.record import RunDirectory
from ncexp.tracking.address import (
    BOUND_S,
    SQLITE,
    UI_ADDRESS,
    experiment_name,
    not_from_here,
    outputs_of,
    sync_command,
    tracking_uri,
)
from ncexp.tracking.memory import page_of

#: Longest wait at a run's end for a file, which takes seconds of processor time, on a busy machine minutes; for a
#: server BOUND_S, since it last took something. A store that failed at the last attempt is not waited for at all.
FILE_S = 600.0
FAILURE = "mlflow_failure.txt"


class Lines:
    """JSON lines that come through a pipe, as they come; `closed` once no more will."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.closed = False
        self._pipe = pipe
        self._rest = b""

    def wait(self, seconds: float | None) -> list[dict[str, Any]]:
        """The lines that are there, or that come first within the time."""
        ready, _, _ = select.select([self._pipe], [], [], seconds)
        if not ready:
            return []
        read = os.read(self._pipe.fileno(), 65536)
        self.closed = not read
        *lines, self._rest = (self._rest + read).split(b"\n")
        return [json.loads(line) for line in lines]


class Uploader:
    """One run's side of the pipe. Nothing here raises, or takes longer than writing a line, but for `finish`."""

    def __init__(self, directory: RunDirectory, uri: str, experiment: str) -> None:
        self._failure_file = directory.path / FAILURE
        self._failure_file.unlink(missing_ok=True)
        self._directory, self.uri = directory, uri
        self._path = str(directory.path)
        self._refusal = not_from_here(uri)
        self._process: subprocess.Popen[bytes] | None = None if self._refusal else _process()
        self._write({"begin": self._path, "uri": uri, "experiment": experiment})

    def notify(self, epoch: int) -> None:
        """The journals' lines up to `epoch` are there, and covered by a checkpoint."""
        self._write({"epoch": epoch})

    def finish(self) -> str | None:
        """Have the rest sent; returns None once it is, or why it is not. The process goes on trying by itself."""
        if self._process is None:
            return self._refusal
        self._write({"end": self._path})
        patience = FILE_S if self.uri.startswith(SQLITE) else BOUND_S
        if not self._failure() and not self._is_done(self._process, patience):
            return self._failure() or _silence(self._process, patience)
        return self._failure()

    def _is_done(self, process: subprocess.Popen[bytes], patience: float) -> bool:
        assert process.stdout is not None
        lines, until = Lines(process.stdout), time.monotonic() + patience
        while not lines.closed and (left := until - time.monotonic()) > 0:
            for line in lines.wait(left):
                if line.get("done") == self._path:
                    return True
                until = time.monotonic() + patience
        return False

    def _write(self, line: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it is gone; `finish` finds that nothing is done and says so
                os.write(self._process.stdin.fileno(), json.dumps(line).encode() + b"\n")

    def _failure(self) -> str | None:
        return self._failure_file.read_text(encoding="utf-8").splitlines()[0] if self._failure_file.exists() else None


def _silence(process: subprocess.Popen[bytes], patience: float) -> str:
    """Why nothing came of a process that did not say it is done."""
    with suppress(subprocess.TimeoutExpired):
        return f"the process that uploads ended with code {process.wait(1)}"
    return f"nothing taken within {patience:.0f} s"


def start_uploader(uri: str | None) -> None:
    """Have MLflow imported beside what this process does before its first run, if the store is one for it to write."""
    if not not_from_here(uri or SQLITE):
        _process()


_running: dict[int, subprocess.Popen[bytes]] = {}


def _process() -> subprocess.Popen[bytes]:
    """This process's uploader, started where there is none, or none any more."""
    running = _running.get(os.getpid())  # by process: a fork must not write into its parent's pipe
    if running is None or running.poll() is not None:
        # A process group of its own: Ctrl-C is for the run, which then ends it. Not a session of its own: Linux may
        # share the processor among sessions first, and low priority would count for nothing.
        running = subprocess.Popen(
            [sys.executable, "-m", "ncexp.tracking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        _running[os.getpid()] = running
    return running


def uploader_of(directory: RunDirectory, raw: Mapping[str, Any]) -> Uploader | None:
    """The uploader of a run or simulation, as its configuration says; None where it is not tracked."""
    if not raw.get("tracking", {"enabled": False})["enabled"]:
        return None
    return Uploader(directory, tracking_uri(raw["tracking"]["uri"], outputs_of(directory.path)), experiment_name(raw))


def finish_tracking(uploader: Uploader | None, directory: RunDirectory, console: Console) -> None:
    """Have the rest uploaded, and print where it is, or why it is not there."""
    if uploader is None:
        return
    failure, page = uploader.finish(), page_of(directory, uploader.uri)
    if failure is not None:
        sync = sync_command(uploader.uri, directory.path)
        text = f"not up to date: {failure.rstrip('.')}. The journals have it all; `{sync}` uploads it then."
    elif uploader.uri.startswith("http"):
        text = f"{uploader.uri.rstrip('/')}/{page}"
    else:
        text = f"{UI_ADDRESS}/{page}   # while `ncexp ui {shlex.quote(str(outputs_of(directory.path)))}` runs"
    console.print(f"MLflow    {text}", soft_wrap=True, markup=False)
