"""The job of a task that this machine works on: ``local:<host>:<process>:<when it started>``.

A process's number alone would not do: numbers are used again, after a restart soon, and a task whose launcher is long
gone would look queued for ever.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

LOCAL = "local:"


def own_job() -> str:
    """This process as a job."""
    return f"{LOCAL}{socket.gethostname()}:{os.getpid()}:{_start(os.getpid())}"


def process_of(job: str) -> int | None:
    """The process that the job stands for, if it lives and is one of this machine's."""
    found = re.fullmatch(f"{LOCAL}([^:]*):([0-9]{{1,9}}):([0-9]+)", job)
    if found is None or found[1] != socket.gethostname() or _start(int(found[2])) != found[3]:
        return None
    return int(found[2])


def _start(pid: int) -> str | None:
    """The clock's ticks at which the process started; None where there is none, or only its exit code is left."""
    try:
        state, *numbers = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else numbers[18]
