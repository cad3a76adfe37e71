"""End the jobs of a sweep, those of SLURM and the process of a local one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from ncexp.launching import slurm
from ncexp.launching.local_job import LOCAL, process_of
from ncexp.launching.noted_submission import adopt_noted
from ncexp.launching.states import job_of, queued_job
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record.text import say


def cancel_sweep(sweep: SweepDirectory, report: Callable[[str], object] = say) -> tuple[int, list[str]]:
    """End the jobs that this sweep submitted, and a local sweep's process.

    Returns how many there were, and what is wrong with notes of submissions that cannot be read.

    SLURM counts its jobs anew after a restart, and a machine its processes: only what bears the sweep's mark is ended.
    report: gets a line for each job that bears its number and not its mark. Raises SlurmUnavailable.
    """
    with sweep.locked():
        queue = _queue(sweep)
        faults = adopt_noted(sweep, queue, report)
    tasks = [(entry.job, entry.task) for entry in sweep.entries() if entry.job]  # a job may have several
    jobs = {job for job, _ in tasks}
    processes = [process for job in jobs if job.startswith(LOCAL) and (process := process_of(job)) is not None]
    for process in processes:
        os.kill(process, signal.SIGTERM)
    ours = {job for job, task in tasks if job == job_of(task) and queued_job(task, queue)}
    slurm.cancel(sorted(ours))
    for job in sorted(jobs & queue.keys() - ours):
        report(f"{job}: left alone: the queue's job of that number is not one that this sweep submitted")
    return len(ours) + len(processes), faults


def _queue(sweep: SweepDirectory) -> slurm.Queue:
    """SLURM's, asked only where it may have a job of the sweep."""
    jobs = [entry.job for entry in sweep.entries() if entry.job]
    noted = any(sweep.submissions.glob("*.json"))
    return slurm.jobs_in_queue() if noted or not all(job.startswith(LOCAL) for job in jobs) else {}
