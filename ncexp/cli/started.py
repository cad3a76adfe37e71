"""What sweeps and runs start as processes; not for people."""

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
    if _lives_no_longer_than(parent):
        from ncexp.launching.worker import serve

        serve(link)
    return 0


#: How far the process that draws stands back until it has drawn once; after that it has the lowest priority.
FIRST_NICE = 10


def draw_live(arguments: list[str]) -> int:
    """`ncexp draw-live RUN PARENT`: draw a run that the process PARENT trains, again and again while that lives."""
    path, parent = arguments
    if _lives_no_longer_than(int(parent)):
        os.nice(FIRST_NICE)  # the first figures come where all processors are busy, too
        from ncexp.report.live import draw_again_and_again

        draw_again_and_again(Path(path))
    return 0


def _lives_no_longer_than(parent: int) -> bool:
    """Have the system kill this process when its parent ends; returns whether that lives.

    Before anything that takes long is imported: of a parent that is killed meanwhile, one would work for nobody.
    """
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    return os.getppid() == parent  # asked afterwards: of an earlier end no signal comes any more
