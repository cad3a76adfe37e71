"""`ncexp run-frozen LINK PARENT`: a process that works on a sweep's tasks for the process PARENT, while that lives.

Not for people; `launching.worker` starts it. LINK: an open file descriptor, over which the tasks come. Nothing that
takes long is imported before the process is bound to its parent: a parent that is killed meanwhile would leave one that
trains for nobody.
"""

from __future__ import annotations

import ctypes
import os
import signal

#: Of prctl(2): which signal a process gets when the thread that started it ends.
SET_PARENT_DEATH_SIGNAL = 1


def main(arguments: list[str]) -> int:
    """Work on the tasks, see `launching.worker`; returns 0 once there are no more."""
    link, parent = map(int, arguments)
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # asked afterwards: of an earlier end no signal comes any more
        return 0
    from ncexp.launching.worker import serve

    serve(link)
    return 0
