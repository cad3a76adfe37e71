"""How a task stands: its own status.json, the job that was submitted for it, and whether SLURM still knows that job."""

from __future__ import annotations

from ncexp.launching.local_job import LOCAL, process_of
from ncexp.launching.slurm import Queue, QueuedJob
from ncexp.record import DamagedFile, State, TaskDirectory


def state_of(task: TaskDirectory, queue: Queue | None) -> State:
    """The state as seen from outside. `queue` is what squeue says; None where it does not respond.

    queued: its job waits (for the first time, or again); lost: its job left the queue before it had begun; killed: its
    process ended without a result; interrupted: stopped where it can go on, and no job goes on with it; damaged: one of
    its files cannot be read.
    """
    try:
        return _state_of(task, queue)
    except DamagedFile:
        return State.RUNNING if task.is_held() else State.DAMAGED


def fault_of(task: TaskDirectory) -> str:
    """Which of the task's files cannot be read, or leads elsewhere, and why; empty where all are sound."""
    try:
        task.status(), task.job()
        task.refuse_links()
    except DamagedFile as error:
        return str(error)
    return ""


def job_of(task: TaskDirectory) -> str | None:
    """The job that was submitted for the task last; None also where its note cannot be read."""
    try:
        return task.job()
    except DamagedFile:
        return None


def _state_of(task: TaskDirectory, queue: Queue | None) -> State:
    status, job = task.status() or {}, task.job()
    state = task.state()
    # Of a task whose newest job has not begun, status.json still says what an earlier one came to.
    current = status.get("job") == job
    if state is not None and state.final:
        return state
    if current and state is State.FAILED:
        return State.FAILED
    if task.is_held():
        return State.RUNNING
    begun_here = current and state in (State.INTERRUPTED, State.RUNNING) and (job or "").startswith(LOCAL)
    if job is not None and not begun_here:
        waiting = _in_queue(task, job, queue)
        if waiting is not None:
            return waiting
    if current and state is State.INTERRUPTED:
        return State.INTERRUPTED
    if current and state is State.RUNNING:
        return State.KILLED  # or its disk was full when it was to note its end
    if job is None:
        return task.actual_state() or State.NEW
    return State.LOST


def queued_job(task: TaskDirectory, queue: Queue) -> QueuedJob | None:
    """The job that was submitted for the task, if the queue has it; a number alone may be another job's by now."""
    found = queue.get(task.job() or "")
    return found if found is not None and found.submission == task.submission() else None


def _in_queue(task: TaskDirectory, job: str, queue: Queue | None) -> State | None:
    """Running, queued or unknown; None: the job is gone."""
    if job.startswith(LOCAL):
        return State.QUEUED if process_of(job) is not None else None
    if queue is None:
        return State.UNKNOWN
    found = queued_job(task, queue)
    if found is None:
        return None
    return State.QUEUED if found.waits else State.RUNNING
