"""One run of a sweep in a process of its own: `python -m ncexp run-frozen CONFIGURATION`, started by launching.pool."""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from pathlib import Path

import yaml
from rich.console import Console

from ncexp.interruption import JOB_SIGNALS, StopRequest
from ncexp.run_directory import EXIT, JOB_VARIABLE, Busy, RunDirectory


def main(arguments: list[str]) -> int:
    """Train what a frozen configuration says; answers the exit code. Everything said goes to the run's log."""
    with StopRequest(JOB_SIGNALS, patient=True) as stop:
        _die_with_parent()
        return EXIT[_run(Path(arguments[0]), stop)]


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


def _die_with_parent() -> None:
    """Have the system kill this process when the one that started it dies: nobody would write down how it ended."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
