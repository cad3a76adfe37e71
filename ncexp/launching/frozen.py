"""What a worker's process does, one of a sweep's tasks after another; started by `launching.worker`.

A line of its standard input, JSON, names a task: [its frozen configuration, its log]. The run is trained or measured,
all that is printed meanwhile, by Python or by C, goes to the log, and the State that it ends in is written as a line to
an open file descriptor. The end of the input is the end of the work.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

import yaml

from ncexp.config import MeasureConfig
from ncexp.launching.console import literal_console
from ncexp.launching.task import check_task, work_on
from ncexp.record import JOB_VARIABLE, Busy, State, TaskDirectory

if TYPE_CHECKING:
    from ncexp.training import StopRequest

#: The C library that is loaded.
_C = ctypes.CDLL(None)


def work_on_input(results: int) -> None:
    """Work on the tasks that standard input names, until its end; results: the descriptor for their states."""
    from ncexp.training import JOB_SIGNALS, StopRequest  # torch takes seconds: the signals are held back meanwhile

    # One request for all tasks, so that no instant is without a handler. To hold the signals back between two tasks
    # would not do: the system gives them to any thread, and libraries have threads that do not hold them back.
    with StopRequest(JOB_SIGNALS, patient=True) as stop:
        os.set_inheritable(results, False)
        for line in _input():
            configuration, log = json.loads(line)
            _print_all_to(log)
            with warnings.catch_warnings():  # the next task shows what this one hid or has shown
                state = _work(Path(configuration), stop)
                _free_memory()
            # What was asked of this task is not asked of the next. It is forgotten before the result is written:
            # whoever has read that may mean the next.
            stop.received.clear()
            os.write(results, f"{state}\n".encode())


def _work(path: Path, stop: StopRequest) -> State:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    console = literal_console(width=120)
    task = check_task(raw)
    directory = TaskDirectory(task.directory)
    console.print(_describe_process(), soft_wrap=True)
    try:
        state = work_on(raw, console, stop)
    except Busy as error:
        console.print(error, soft_wrap=True, markup=False)
        return State.BUSY
    except Exception as error:
        _note_failure(directory, error)
        return State.FAILED
    if isinstance(task, MeasureConfig) and directory.state() is not state:
        directory.set_status(state)  # another process measured everything before this one began
    return state


def _note_failure(directory: TaskDirectory, error: Exception) -> None:
    """A run that had begun to train has noted it, with its traceback; of all else it is noted here."""
    status = directory.status() or {}
    noted = (status.get("state"), status.get("pid")) == (State.FAILED, os.getpid())
    if not noted or "epoch" not in status:
        traceback.print_exc()
    if not noted and os.environ.get("RANK", "0") == "0":
        directory.set_status(State.FAILED, message=f"{type(error).__name__}: {error}")


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


def _input() -> IO[str]:
    """Standard input, taken away from what the tasks call and start: it might read the names of other tasks."""
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lines


def _print_all_to(log: str) -> None:
    """From now on add to this file what is written to standard output and standard error, whoever writes it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # whatever the locale is: it is read as such
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


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
