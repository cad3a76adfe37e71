"""`ncexp run-job SWEEP NAME LIMITS`: a job of the SLURM array NAME works on its tasks. Not for people."""

from __future__ import annotations

import signal
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Work on the tasks, see `launching.job`; returns the job's exit code."""
    # Held back until they can be caught, once torch is imported: before, they would end the job.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2))
    from ncexp.launching.job import Limits, carry_out
    from ncexp.launching.sweep_directory import SweepDirectory

    folder, name, *limits = arguments
    return carry_out(SweepDirectory(Path(folder)), name, Limits(*map(int, limits)))
