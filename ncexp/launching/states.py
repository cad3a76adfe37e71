"""How a run stands: its own status.json, the job that was submitted for it, and whether SLURM still knows that job."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable, Mapping

from ncexp.run_directory import FINISHED, RunDirectory

#: Everything that `state_of` answers, in the order in which counts are told.
STATES = (
    "completed", "diverged", "failed", "interrupted", "lost", "running", "queued", "new", "unknown"
)  # fmt: skip
#: A process or a job is at the run, or will be.
ACTIVE = ("running", "queued")


def state_of(run: RunDirectory, queue: Mapping[str, str] | None) -> str:
    """One of STATES. `queue` is what squeue answers; None where it does not.

    queued: its job waits (for the first time, or again); lost: its job left the queue, or its process died, without a
    word; interrupted: stopped at a checkpoint, and no job goes on with it; unknown: only SLURM could tell.
    """
    status, job = run.status() or {}, run.job()
    state = status.get("state")
    # Of a run whose newest job has not begun, status.json still tells what an earlier one came to.
    told = status.get("job") == job
    if state in FINISHED:
        return str(state)
    if told and state == "failed":
        return "failed"
    if run.actual_state() == "running":
        return "running"
    if job is not None and not (told and state == "interrupted" and job.startswith("local:")):
        waiting = _in_queue(job, queue)
        if waiting != "gone":
            return waiting
    if told and state == "interrupted":
        return "interrupted"
    return "new" if state is None and job is None else "lost"


def _in_queue(job: str, queue: Mapping[str, str] | None) -> str:
    """running, queued, gone or unknown."""
    if job.startswith("local:"):
        _, host, pid = job.split(":")
        return "queued" if host == socket.gethostname() and _is_alive(int(pid)) else "gone"
    if queue is None:
        return "unknown"
    if job not in queue:
        return "gone"
    return "queued" if queue[job] in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT") else "running"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def tell_counts(states: Iterable[str]) -> str:
    """``3 completed, 1 failed, 2 queued``."""
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none"
