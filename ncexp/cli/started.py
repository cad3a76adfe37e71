"""What a sweep starts as processes; not for people."""

from __future__ import annotations

import ctypes
import os
import signal

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
