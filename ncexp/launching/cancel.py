"""`ncexp cancel`: end what a sweep still has in the queue or trains on this machine; every run saves itself."""

from __future__ import annotations

import os
import signal
import socket
import sys

from ncexp.launching import slurm
from ncexp.launching.status import chosen_sweep, parser
from ncexp.launching.sweep_directory import SweepDirectory


def main(arguments: list[str]) -> int:
    """Cancel; answers 0, 1 where SLURM does not answer, 2 where there is no such sweep."""
    given = parser("cancel", "End the sweep's jobs; running ones save themselves first.").parse_args(arguments)
    sweep = chosen_sweep(given.outputs, given.sweep)
    if sweep is None:
        return 2
    try:
        count = cancel(sweep)
    except slurm.SlurmUnavailable as error:
        print(f"ncexp: {error}", file=sys.stderr)
        return 1
    print(f"{count} jobs are being ended; the same command as before goes on with what is not finished")
    return 0


def cancel(sweep: SweepDirectory) -> int:
    """End the jobs that this sweep submitted, and a local sweep's process; answers how many there were."""
    jobs = {entry.job for entry in sweep.entries() if entry.job}
    here = f"local:{socket.gethostname()}:"
    processes = {int(job.removeprefix(here)) for job in jobs if job.startswith(here)}
    trained = [process for process in processes if _trains(sweep, process)]
    for process in trained:
        os.kill(process, signal.SIGTERM)
    if all(job.startswith("local:") for job in jobs):
        return len(trained)
    queued = sorted(jobs & slurm.jobs_in_queue().keys())
    slurm.cancel(queued)
    return len(queued) + len(trained)


def _trains(sweep: SweepDirectory, process: int) -> bool:
    """Does a run of the sweep train under that process? A number alone may have passed to somebody else's."""
    job = f"local:{socket.gethostname()}:{process}"
    runs = [entry.run for entry in sweep.entries() if entry.job == job]
    return any(run.actual_state() == "running" and (run.status() or {}).get("job") == job for run in runs)
