"""The process that trains a sweep's runs one after another: `python -m ncexp run-frozen ANSWERS`; see launching.worker.

A line of its standard input, JSON, names a run: [its frozen configuration, its log]. The run is trained, all that is
said meanwhile, by Python or by C, goes to the log, and the outcome, a word of EXIT, goes as a line to the open file
descriptor ANSWERS. The end of the input ends the process.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import signal
import traceback
import warnings
from pathlib import Path
from typing import IO

import yaml
from rich.console import Console

from ncexp.interruption import JOB_SIGNALS, StopRequest
from ncexp.run_directory import JOB_VARIABLE, Busy, RunDirectory

#: The C library that is loaded.
_C = ctypes.CDLL(None)


def main(arguments: list[str]) -> int:
    """Train the runs that standard input names; answers 0 at its end."""
    parser = argparse.ArgumentParser(prog="ncexp run-frozen", description=__doc__)
    parser.add_argument("answers", type=int, help="an open file descriptor, not 0, 1 or 2")
    answers = parser.parse_args(arguments).answers
    # One request for all runs, so that no instant is without a handler. To hold the signals back between two runs
    # would not do: the system gives them to any thread, and libraries have threads that do not hold them back.
    with StopRequest(JOB_SIGNALS, patient=True) as stop:
        _die_with_parent()
        os.set_inheritable(answers, False)
        for line in _input():
            configuration, log = json.loads(line)
            _say_all_to(log)
            with warnings.catch_warnings():  # the next run shows what this one hid or has shown
                outcome = _run(Path(configuration), stop)
                _let_go()
            # What was asked of this run is not asked of the next. It is forgotten before the answer: whoever has heard
            # that may mean the next.
            stop.received.clear()
            os.write(answers, f"{outcome}\n".encode())
    return 0


def _run(path: Path, stop: StopRequest) -> str:
    from ncexp.config import check
    from ncexp.main import run  # torch takes seconds: only once signals are caught

    raw = yaml.safe_load(path.read_text())
    console = Console(width=120, highlight=False)
    directory = RunDirectory(check(raw).directory)
    console.print(_seen_here(), soft_wrap=True)
    try:
        return run(raw, console, stop)
    except Busy as error:
        console.print(error, soft_wrap=True)
        return "busy"
    except Exception as error:
        status = directory.status() or {}
        if (status.get("state"), status.get("pid")) == ("failed", os.getpid()):
            return "failed"  # it had begun to train, and has told of it
        traceback.print_exc()
        if os.environ.get("RANK", "0") == "0":
            directory.set_status("failed", message=f"{type(error).__name__}: {error}")
        return "failed"


def _seen_here() -> str:
    """What this process was given: a job with one CPU where four were asked for is a common and silent loss."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    allowed, asked = len(os.sched_getaffinity(0)), os.environ.get("SLURM_CPUS_PER_TASK", "none")
    return (
        f"job       {os.environ.get(JOB_VARIABLE)} on {os.uname().nodename}: {allowed} CPUs allowed, "
        f"{asked} asked per task, {torch.get_num_threads()} threads; {len(gpus)} GPUs {', '.join(gpus)}\n"
        f"code      {Path(__file__).parent}"
    )


def _input() -> IO[str]:
    """Standard input, taken away from what the runs call and start: it might read the names of other runs."""
    lines = os.fdopen(os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lines


def _say_all_to(log: str) -> None:
    """From now on add to this file what is written to standard output and standard error, whoever writes it."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _let_go() -> None:
    """Give back what a run held and nobody needs any more: memory, which other workers share, and compiled programs."""
    import torch

    torch.compiler.reset()  # it compiles a function for so many networks only, then for none, with other roundings
    gc.collect()
    torch.cuda.empty_cache()
    if hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)


def _die_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends: nobody would write down its end."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    _C.prctl(set_parent_death_signal, signal.SIGKILL)
