"""A process that lasts and trains one run of a sweep after another, as the pool sees it; its own side: frozen_run.

torch takes four seconds to import, and MLflow's follower, one for each process, five seconds of processor time to
start: a process for every run would pay both every time.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ncexp.interruption import JOB_SIGNALS


class Worker:
    """One place of a pool: at most one process, which begins with the first run that there is for it.

    environment: the process's variables besides our own. To be used by one thread, which outlives the runs: a process
    dies with the thread that started it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._dismissed: list[subprocess.Popen[bytes]] = []
        self._answers = -1

    def train(self, configuration: Path, log: Path) -> None:
        """Hand over a run, to a new process where none is left; all that is said meanwhile is added to `log`."""
        run = json.dumps([str(configuration), str(log)]).encode() + b"\n"
        if not self._hand(run):
            self.dismiss()
            self._start(log)
            self._hand(run)

    def fileno(self) -> int:
        """Can be read, as `select` asks, once `poll` has something to tell."""
        return self._answers

    def poll(self) -> str | int | None:
        """The word, of EXIT, that the run ended with; the code of a process that died over it; None: it trains."""
        assert self._process is not None
        code = self._process.poll()  # asked first: what answered and died thereafter has answered
        answered = select.select([self], [], [], 0)[0] and os.read(self._answers, 64)
        return answered.decode().strip() if answered else code

    def stop(self) -> None:
        """Ask the run to save itself and end."""
        assert self._process is not None
        self._process.terminate()

    def dismiss(self) -> None:
        """Have the process end as soon as it trains nothing; the next run gets a new one."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            os.close(self._answers)
            self._dismissed.append(self._process)
            self._process = None

    def close(self) -> None:
        """Dismiss, and wait until nothing is left."""
        self.dismiss()
        for process in self._dismissed:
            process.wait()

    def _hand(self, run: bytes) -> bool:
        """Is there a process that lives, and has it the run now?"""
        if self._process is None or self._process.poll() is not None:
            return False
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(run)
        except BrokenPipeError:  # it was about to die
            return False
        return True

    def _start(self, log: Path) -> None:
        self._answers, theirs = os.pipe()
        # -u: what Python, or C, held back of a run's words would end up in the next one's log.
        command = [sys.executable, "-u", "-m", "ncexp", "run-frozen", str(theirs)]
        # Held back until the process can catch them: before, they would kill it.
        signal.pthread_sigmask(signal.SIG_BLOCK, JOB_SIGNALS)
        try:
            with log.open("ab") as file:
                self._process = subprocess.Popen(
                    command,
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=file,
                    pass_fds=[theirs],
                    env={**os.environ, **self._environment},
                )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, JOB_SIGNALS)
            os.close(theirs)
