"""The process that sends while runs train, so that no training step waits for a store, a network or Python's lock.

One process, of low priority, serves all runs that its parent trains one after the other, as MLflow takes seconds to
import. Over a pipe it is told, a JSON line each, which run begins, what is on record and checkpointed, and that the
run has ended; then it sends the rest and answers with a line. When the pipe closes amid a run, the run was killed, and
MLflow is told that too.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO, Any

from ncexp.run_directory import RunDirectory
from ncexp.tracking.mirror import page_of
from ncexp.tracking.store import SQLITE, not_from_here

#: Longest wait at a run's end for a file here or a server that has answered; for one that has done neither so far.
#: A store that failed when last asked is not waited for at all.
PATIENCE_S, FIRST_ANSWER_S = 60.0, 10.0
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


class Follower:
    """One run's side of the pipe. Nothing here raises, or takes longer than writing a line."""

    def __init__(self, directory: RunDirectory, uri: str, experiment: str) -> None:
        self._failure_file = directory.path / FAILURE
        self._failure_file.unlink(missing_ok=True)
        self._directory, self._uri = directory, uri
        self._path = str(directory.path)
        self._refusal = not_from_here(uri)
        self._process: subprocess.Popen[bytes] | None = None if self._refusal else _process()
        self._tell({"begin": self._path, "uri": uri, "experiment": experiment})

    def notify(self, epoch: int) -> None:
        """The journal's lines up to `epoch` are there, and will not be computed again."""
        self._tell({"epoch": epoch})

    def finish(self) -> str | None:
        """Have the rest sent; answers None once it is, or why it is not. The process goes on trying by itself."""
        if self._process is None:
            return self._refusal
        self._tell({"end": self._path})
        works = not self._uri.startswith("http") or page_of(self._directory, self._uri) is not None
        patience = PATIENCE_S if works else FIRST_ANSWER_S
        if not self._failure() and not self._await_answer(self._process, patience):
            return self._failure() or f"no answer within {patience:.0f} s"
        return self._failure()

    def _await_answer(self, process: subprocess.Popen[bytes], patience: float) -> bool:
        assert process.stdout is not None
        answers, until = Lines(process.stdout), time.monotonic() + patience
        while not answers.closed and (left := until - time.monotonic()) > 0:
            if any(answer["done"] == self._path for answer in answers.wait(left)):
                return True
        return False

    def _tell(self, line: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it is gone; `finish` gets no answer and says so
                os.write(self._process.stdin.fileno(), json.dumps(line).encode() + b"\n")

    def _failure(self) -> str | None:
        return self._failure_file.read_text().splitlines()[0] if self._failure_file.exists() else None


def start_follower(uri: str | None) -> None:
    """Have MLflow imported beside what this process does before its first run, if the store is one for it to write."""
    if not not_from_here(uri or SQLITE):
        _process()


_running: dict[int, subprocess.Popen[bytes]] = {}


def _process() -> subprocess.Popen[bytes]:
    """This process's follower, started where there is none, or none any more."""
    running = _running.get(os.getpid())  # by process: a fork must not talk over its parent's pipe
    if running is None or running.poll() is not None:
        # A process group of its own: Ctrl-C is for the run, which then says the last word. Not a session of its own:
        # Linux may share the processor among sessions first, and low priority would count for nothing.
        running = subprocess.Popen(
            [sys.executable, "-m", "ncexp.tracking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        _running[os.getpid()] = running
    return running
