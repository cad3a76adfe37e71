"""`ncexp run-frozen RESULTS PARENT`: a process that works on a sweep's tasks for the process PARENT, while that lives.

Not for people; `launching.worker` starts it. Nothing that takes long is imported before the process is bound to its
parent: a parent that is killed meanwhile would leave one that trains for nobody.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal

#: Of prctl(2): which signal a process gets when the thread that started it ends.
SET_PARENT_DEATH_SIGNAL = 1


def main(arguments: list[str]) -> int:
    """Work on the tasks that standard input names, see `launching.frozen`; returns 0 at its end."""
    parser = argparse.ArgumentParser(prog="ncexp run-frozen", description=__doc__)
    parser.add_argument("results", type=int, help="an open file descriptor, not 0, 1 or 2")
    parser.add_argument("parent", type=int, help="the process that reads them")
    given = parser.parse_args(arguments)
    if not _bind_to(given.parent):
        return 0
    from ncexp.launching.frozen import work_on_input

    work_on_input(given.results)
    return 0


def _bind_to(parent: int) -> bool:
    """Have the system kill this process when its parent ends; returns whether that was still there."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    return os.getppid() == parent  # asked afterwards: of an earlier end no signal comes any more
