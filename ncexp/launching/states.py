"""How a task stands: its own status.json, the job that was submitted for it, and whether that job is still there.

The job of a task that this machine works on is ``local:<host>:<process>:<when it started>``. A process's number alone
would not do: numbers are used again, after a restart soon, and a task whose launcher is long gone would look queued
for ever.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncexp.launching import slurm
from ncexp.launching.sweep_directory import Entry
from ncexp.record import DamagedFile, State, TaskDirectory

LOCAL = "local:"


@dataclass(frozen=True)
class Standing:
    """How the tasks of a sweep stand at one moment.

    states: by number; reasons: by number, why the job of a queued task waits, in SLURM's words; put_back: the jobs that
    wait in the queue though all their tasks are through, as they were preempted just after that.
    """

    states: dict[int, State]
    reasons: dict[int, str]
    put_back: set[str]


def look(entries: Sequence[Entry]) -> Standing:
    """How the tasks stand now. SLURM is asked only where a job of its own is concerned."""
    here = all((job_of(entry.task) or LOCAL).startswith(LOCAL) for entry in entries)
    return standing(entries, {} if here else slurm.known_queue())


def standing(entries: Sequence[Entry], queue: slurm.Queue | None) -> Standing:
    """How they stand, by their files and by what squeue says; None: it does not respond."""
    states = {entry.num: state_of(entry.task, queue) for entry in entries}
    found = [(entry, queued_job(entry.task, queue or {})) for entry in entries]
    waiting = [(entry, job) for entry, job in found if job is not None and job.waits]
    left = {entry.job for entry in entries if not states[entry.num].final}
    return Standing(
        states,
        {entry.num: job.reason for entry, job in waiting if job.reason and states[entry.num] is State.QUEUED},
        {str(entry.job) for entry, _ in waiting if entry.job not in left},
    )


def in_trouble(state: State) -> bool:
    """Whether a person has to do something about it."""
    return not state.active and state.exit_code != 0


def state_of(task: TaskDirectory, queue: slurm.Queue | None) -> State:
    """The state as seen from outside. `queue` is what squeue says; None where it does not respond.

    queued: its job waits (for the first time, or again); lost: its job left the queue before it had begun; killed: its
    process ended without a result; interrupted: stopped where it can go on, and no job goes on with it; damaged: one of
    its files cannot be read.
    """
    try:
        return _state_of(task, queue)
    except DamagedFile:
        return State.RUNNING if task.is_held() else State.DAMAGED


def _state_of(task: TaskDirectory, queue: slurm.Queue | None) -> State:
    status, job = task.status() or {}, task.job()
    state = task.state()
    # Of a task whose newest job has not begun, status.json still says what an earlier one came to.
    current = status.get("job") == job
    if state is not None and (state.final or (current and state in (State.FAILED, State.PRUNED))):
        return state
    if task.is_held():
        return State.RUNNING
    begun_here = current and state in (State.INTERRUPTED, State.RUNNING) and (job or "").startswith(LOCAL)
    if job is not None and not begun_here and (waiting := _in_queue(task, job, queue)) is not None:
        return waiting
    if current and state is State.INTERRUPTED:
        return State.INTERRUPTED
    if current and state is State.RUNNING:
        return State.KILLED  # or its disk was full when it was to note its end
    return State.LOST if job is not None else task.actual_state() or State.NEW


def _in_queue(task: TaskDirectory, job: str, queue: slurm.Queue | None) -> State | None:
    """Running, queued or unknown; None: the job is gone."""
    if job.startswith(LOCAL):
        return State.QUEUED if process_of(job) is not None else None
    if queue is None:
        return State.UNKNOWN
    found = queued_job(task, queue)
    return None if found is None else State.QUEUED if found.waits else State.RUNNING


def queued_job(task: TaskDirectory, queue: slurm.Queue) -> slurm.QueuedJob | None:
    """The job that was submitted for the task, if the queue has it; a number alone may be another job's by now."""
    found = queue.get(job_of(task) or "")
    return found if found is not None and found.submission == task.submission() else None


def job_of(task: TaskDirectory) -> str | None:
    """The job that was submitted for the task last; None also where its note cannot be read."""
    try:
        return task.job()
    except DamagedFile:
        return None


def fault_of(task: TaskDirectory) -> str:
    """Which of the task's files cannot be read, or leads elsewhere, and why; empty where all are sound."""
    try:
        task.status(), task.job()
        task.refuse_links()
    except DamagedFile as error:
        return str(error)
    return ""


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
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    return None if state in "ZX" else numbers[18]
