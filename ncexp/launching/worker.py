"""A process that works on one task of a sweep after another: the side of the pool, and its own.

torch takes four seconds to import, and the uploader to MLflow, one for each process, five seconds of processor time to
start: a process for every task would pay both every time. Between the two goes a pair of messages for each task: the
pool sends [its frozen configuration, its log] as JSON, the process returns the State that the task ended in.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ncexp.config import MeasureConfig
from ncexp.launching.task import attempt, check_task
from ncexp.record import JOB_VARIABLE, State, TaskDirectory
from ncexp.record.console import literal_console

if TYPE_CHECKING:
    from ncexp.training import StopRequest

#: The C library that is loaded.
_C = ctypes.CDLL(None)


class Worker:
    """One place of a pool: at most one process, which begins with the first task that there is for it.

    environment: the process's variables besides our own. To be used by one thread, which outlives the tasks: a process
    dies with the thread that started it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: Any = None
        self._link: Any = None
        self._dismissed: list[subprocess.Popen[bytes]] = []

    def begin(self, configuration: Path, log: Path) -> None:
        """Hand over a task, to a new process where none is left; all that is printed meanwhile is added to `log`."""
        task = json.dumps([str(configuration), str(log)]).encode()
        if not self._hand(task):
            self.dismiss()
            self._start(log)
            self._hand(task)

    def fileno(self) -> int:
        """Can be read, as `select` asks, once `poll` returns something."""
        return int(self._link.fileno())

    def poll(self) -> State | int | None:
        """The state that the task ended in; the code of a process that died over it; None: it goes on."""
        code: int | None = self._process.poll()  # first: a process that ended after its task has sent the state before
        if not select.select([self], [], [], 0)[0]:
            return code
        try:
            return State(self._link.recv_bytes().decode())
        except (EOFError, ConnectionResetError):
            return int(self._process.wait())

    def stop(self) -> None:
        """Ask the task to save itself and end."""
        self._process.terminate()

    def dismiss(self) -> None:
        """Have the process end as soon as it has nothing to do; the next task gets a new one."""
        if self._process is not None:
            self._link.close()
            self._dismissed.append(self._process)
            self._process = None

    def close(self) -> None:
        """Dismiss, and wait until nothing is left."""
        self.dismiss()
        for process in self._dismissed:
            process.wait()

    def _hand(self, task: bytes) -> bool:
        """Send the task to the process; returns whether there is one that lives and takes it."""
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            self._link.send_bytes(task)
        except BrokenPipeError:  # it was about to die
            return False
        return True

    def _start(self, log: Path) -> None:
        from ncexp.training import JOB_SIGNALS  # torch takes seconds; whoever has work for a worker has it

        self._link, theirs = Pipe()
        # -u: what Python, or C, held back of a task's words would end up in the next one's log.
        command = [sys.executable, "-u", "-m", "ncexp", "run-frozen", str(theirs.fileno()), str(os.getpid())]
        # Held back until the process can catch them: before, they would kill it.
        signal.pthread_sigmask(signal.SIG_BLOCK, JOB_SIGNALS)
        try:
            with log.open("ab") as file:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **self._environment},
                )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, JOB_SIGNALS)
            theirs.close()


def serve(descriptor: int) -> None:
    """Work on the tasks that come over the open file `descriptor`, until the pool closes it; the process's own side."""
    from ncexp.training import JOB_SIGNALS, StopRequest  # torch takes seconds: the signals are held back meanwhile

    link = Connection(descriptor)
    os.set_inheritable(descriptor, False)
    # One request for all tasks, so that no instant is without a handler. To hold the signals back between two tasks
    # would not do: the system gives them to any thread, and libraries have threads that do not hold them back.
    with StopRequest(JOB_SIGNALS, patient=True) as stop:
        while True:
            try:
                configuration, log = json.loads(link.recv_bytes())
            except EOFError:
                return
            _print_all_to(log)
            with warnings.catch_warnings():  # the next task shows what this one hid or has shown
                state = _work(Path(configuration), stop)
                _write_out()
                _free_memory()
            # What was asked of this task is not asked of the next. It is forgotten before the result is sent: whoever
            # has read that may mean the next.
            stop.received.clear()
            link.send_bytes(state.encode())


def _work(path: Path, stop: StopRequest) -> State:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    console = literal_console(width=120)
    task = check_task(raw)
    directory = TaskDirectory(task.directory)
    console.print(_describe_process(), soft_wrap=True)
    state = attempt(raw, console, stop, directory, draws=False)
    if isinstance(task, MeasureConfig) and state not in (State.BUSY, directory.state()):
        directory.set_status(state)  # another process measured everything before this one began
    return state


def _describe_process() -> str:
    """What this process was given: a job with one CPU where four were asked for is a common and silent loss."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    allowed, asked = len(os.sched_getaffinity(0)), os.environ.get("SLURM_CPUS_PER_TASK", "none")
    return (
        f"job       {os.environ.get(JOB_VARIABLE)} on {os.uname().nodename}: {allowed} CPUs allowed, "
        f"{asked} asked per task, {torch.get_num_threads()} threads; {len(gpus)} GPUs {', '.join(gpus)}\n"
        f"code      {Path(__file__).parents[1]}"
    )


def _print_all_to(log: str) -> None:
    """From now on add to this file what is written to standard output and standard error, whoever writes it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # whatever the locale is: it is read as such
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _write_out() -> None:
    """What Python and the C library hold back for a file goes to this task's, and not to that of the next."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    _C.fflush(None)


def _free_memory() -> None:
    """Give back what nobody needs any more of a task: memory, which other workers share, and compiled programs."""
    import torch

    # It compiles a function for so many networks only, then for none, with other roundings; nothing is compiled without
    # _dynamo, which takes a second to import.
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    if hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)
