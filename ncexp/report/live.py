"""Figures of a run while it trains: from the epochs so far, by a process of low priority."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from ncexp.record import RunDirectory
from ncexp.report.run import draw_run

#: How long a training has lasted when they are first drawn: a shorter one draws them at its end alone.
FIRST_S = 4.0
#: They are drawn anew once the training has lasted longer by this share, and at least and at most so many seconds.
SHARE, LEAST_S, MOST_S = 0.5, 5.0, 600.0


class LiveFigures:
    """Within it figures appear, and are drawn anew, while the run trains; at its end they are drawn as ever.

    The process lives no longer than this one, however that ends. Until it has drawn once it has a weight of 110 where a
    training has 1024, then of 15: where it finds no idle processor the first figures take about a tenth of one, later
    ones 1.5 %, and come later. A file is replaced whole.
    """

    def __init__(self, directory: RunDirectory, console: Console) -> None:
        self._directory, self._began = directory, time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        words = f"figures   {directory.figures}: of the epochs so far, drawn anew while it trains"
        console.print(words, soft_wrap=True, markup=False)

    def __enter__(self) -> LiveFigures:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()  # what it leaves unfinished the next drawing removes
            self._process.wait()

    def epoch_evaluated(self) -> None:
        """Begin to draw, once it is time."""
        if self._process is None and time.monotonic() - self._began > FIRST_S:
            self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ncexp", "draw-live", str(self._directory.path.absolute()), str(os.getpid())]
        nothing = subprocess.DEVNULL
        # Ctrl-C is for the run, which ends this process. No session of its own: see `ncexp.tracking.sync`.
        return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, process_group=0)


def draw_again_and_again(path: Path) -> None:
    """The process's own side; ends by a signal alone."""
    began = time.monotonic() - FIRST_S
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    while True:
        with suppress(ValueError):  # of a file that cannot be read: the end names it
            draw_run(RunDirectory(path), is_trained=True)
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        time.sleep(min(max(SHARE * (time.monotonic() - began), LEAST_S), MOST_S))
