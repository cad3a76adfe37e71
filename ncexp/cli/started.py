"""What a sweep starts as processes; not for people."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

#: Of prctl(2): which signal a process gets when the thread that started it ends.
SET_PARENT_DEATH_SIGNAL = 1


def run_frozen(arguments: list[str]) -> int:
    """`ncexp run-frozen LINK PARENT`: work on a sweep's tasks for the process PARENT, while that lives.

    LINK: an open file descriptor, over which the tasks come, see `launching.worker`. Returns 0 once there are no more.
    """
    link, parent = map(int, arguments)
    # Before anything that takes long is imported: of a parent that is killed meanwhile, one would train for nobody.
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # asked afterwards: of an earlier end no signal comes any more
        return 0
    from ncexp.launching.worker import serve

    serve(link)
    return 0


def run_job(arguments: list[str]) -> int:
    """`ncexp run-job SWEEP NAME LIMITS`: work on the tasks of a job of the array NAME, see `launching.job`."""
    # Held back until they can be caught, once torch is imported: before, they would end the job.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2))
    from ncexp.launching.job import Limits, carry_out
    from ncexp.launching.sweep_directory import SweepDirectory

    folder, name, *limits = arguments
    return carry_out(SweepDirectory(Path(folder)), name, Limits(*map(int, limits)))
