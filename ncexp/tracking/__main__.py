"""The uploader's own side of the pipe; started by `ncexp.tracking.uploader`, not by people."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncexp.record import DamagedFile, RunDirectory, State
from ncexp.tracking.store import describe, import_client
from ncexp.tracking.upload import RunUpload
from ncexp.tracking.uploader import FAILURE, Lines

#: At most one transfer of a running training in this time: a sweep's processes share one store.
PACE_S = 2.0
#: How long after a failure to try again, if the run goes on without a further evaluation.
RETRY_S = 30.0


class Messages:
    """What the parent writes, a line at a time."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._waiting: deque[dict[str, Any]] = deque()

    def next(self, seconds: float | None) -> dict[str, Any] | None:
        """The next line; None when none came in time. After the pipe closed: an end that nobody announced."""
        if not self._waiting:
            self._waiting.extend(self._lines.wait(seconds))
        if self._waiting:
            return self._waiting.popleft()
        return {"killed": True} if self._lines.closed else None


def serve(messages: Messages) -> None:
    """Upload one run after the other until the parent is gone."""
    while (line := messages.next(None)) is None or "killed" not in line:
        if line and "begin" in line:
            _upload(Path(line["begin"]), line["uri"], line["experiment"], messages)


def _upload(path: Path, uri: str, experiment: str, messages: Messages) -> None:
    """Send until the run ends, and then the rest."""
    upload = RunUpload(path, uri, experiment, _note_progress)
    pending, line = True, None  # the run appears when it begins
    earliest = 0.0
    while not (line and ("end" in line or "killed" in line)):
        if pending and time.monotonic() >= earliest:
            pending = not _attempt(upload, path)
            earliest = time.monotonic() + (RETRY_S if pending else PACE_S)
        line = messages.next(max(0.0, earliest - time.monotonic()) if pending else None)
        pending |= bool(line and "epoch" in line)
    if "killed" in line:
        _await_end(path)
    _attempt(upload, path)
    if "end" in line:
        print(json.dumps({"done": str(path)}), flush=True)


def _note_progress() -> None:
    """For a parent that waits for the end. Left out where none reads and the pipe is filling up, or none is there."""
    if select.select([], [sys.stdout], [], 0)[1]:
        with suppress(BrokenPipeError):  # a killed run's numbers are uploaded all the same
            os.write(sys.stdout.fileno(), json.dumps({"progress": True}).encode() + b"\n")


def _await_end(path: Path) -> None:
    """The system closes a killed run's pipe and releases its lock within an instant, in either order."""
    until = time.monotonic() + PACE_S
    with suppress(DamagedFile):  # the last attempt meets it again, and writes it down
        while RunDirectory(path).actual_state() is State.RUNNING and time.monotonic() < until:
            time.sleep(0.05)


def _attempt(upload: RunUpload, path: Path) -> bool:
    """One transfer; a failure is written down beside the journals, its first line for people."""
    try:
        upload.send()
    except Exception as error:
        lines = f"{describe(error)}\n\n{traceback.format_exc()}"
        with suppress(OSError):  # of a full disk, or a directory that was moved
            (path / FAILURE).unlink(missing_ok=True)  # it may be a link
            (path / FAILURE).write_text(lines, encoding="utf-8")
        return False
    (path / FAILURE).unlink(missing_ok=True)
    return True


if __name__ == "__main__":
    os.nice(5)
    # The parent decides when this ends, by closing the pipe; a signal that stops the parent must not stop this first.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # nobody waits for this process: it may be patient
    with suppress(Exception):  # the first transfer meets it again, and writes it down
        import_client()
    serve(Messages(Lines(sys.stdin.buffer)))
