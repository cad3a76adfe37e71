"""A process that works on one task of a sweep after another, as the pool sees it; its own side: frozen.py.

torch takes four seconds to import, and the uploader to MLflow, one for each process, five seconds of processor time to
start: a process for every task would pay both every time.
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

from ncexp.record import State


class Worker:
    """One place of a pool: at most one process, which begins with the first task that there is for it.

    environment: the process's variables besides our own. To be used by one thread, which outlives the tasks: a process
    dies with the thread that started it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._dismissed: list[subprocess.Popen[bytes]] = []
        self._results = -1

    def begin(self, configuration: Path, log: Path) -> None:
        """Hand over a task, to a new process where none is left; all that is printed meanwhile is added to `log`."""
        task = json.dumps([str(configuration), str(log)]).encode() + b"\n"
        if not self._hand(task):
            self.dismiss()
            self._start(log)
            self._hand(task)

    def fileno(self) -> int:
        """Can be read, as `select` asks, once `poll` returns something."""
        return self._results

    def poll(self) -> State | int | None:
        """The state that the task ended in; the code of a process that died over it; None: it goes on."""
        assert self._process is not None
        code = self._process.poll()  # first: a process that ended after its task has written the state before
        result = select.select([self], [], [], 0)[0] and os.read(self._results, 64)
        return State(result.decode().strip()) if result else code

    def stop(self) -> None:
        """Ask the task to save itself and end."""
        assert self._process is not None
        self._process.terminate()

    def dismiss(self) -> None:
        """Have the process end as soon as it has nothing to do; the next task gets a new one."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            os.close(self._results)
            self._dismissed.append(self._process)
            self._process = None

    def close(self) -> None:
        """Dismiss, and wait until nothing is left."""
        self.dismiss()
        for process in self._dismissed:
            process.wait()

    def _hand(self, task: bytes) -> bool:
        """Is there a process that lives, and has it the task now?"""
        if self._process is None or self._process.poll() is not None:
            return False
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(task)
        except BrokenPipeError:  # it was about to die
            return False
        return True

    def _start(self, log: Path) -> None:
        from ncexp.training import JOB_SIGNALS  # torch takes seconds; whoever has work for a worker has it

        self._results, theirs = os.pipe()
        # -u: what Python, or C, held back of a task's words would end up in the next one's log.
        command = [sys.executable, "-u", "-m", "ncexp", "run-frozen", str(theirs), str(os.getpid())]
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
