"""Several tasks at once on one machine, in as many lasting processes, each with its own share of CPUs and GPUs."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from glob import glob
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ncexp.launching.states import LOCAL
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.worker import Worker
from ncexp.record import JOB_VARIABLE, State, format_time
from ncexp.tracking import follow

#: How often the pool checks whether it was asked to stop, and whether a process has died.
POLL_S = 0.2
#: The GPUs that this machine, or this container, shows.
GPU_NODES = "/dev/nvidia[0-9]*"


def shares(at_once: int) -> list[dict[str, str]]:
    """The variables of each of so many processes: the CPUs are divided among them, the GPUs go round.

    The CPUs are those that this process may use, of a job those it asked for. The GPUs are those that
    CUDA_VISIBLE_DEVICES names, none where it is empty, all there are where it is not set.
    """
    allowed = len(os.sched_getaffinity(0))
    asked = int(os.environ.get("SLURM_CPUS_PER_TASK", allowed))
    cpus = str(max(1, min(allowed, asked) // at_once))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), cpus)
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:  # the device nodes are counted: asking torch or the driver would take seconds, and GPU memory
        named = ",".join(str(index) for index in range(len(glob(GPU_NODES))))
    if at_once == 1 or not named:  # one task alone keeps all GPUs: it may be spread over them
        return [threads] * at_once
    gpus = [gpu for gpu in named.split(",") if gpu]
    return [threads | {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} for place in range(at_once)]


def followed(sweep: SweepDirectory, entries: Sequence[Entry], console: Console) -> AbstractContextManager[None]:
    """During which MLflow is brought up to the runs by one process, whichever process works on them."""
    raws = (yaml.safe_load(sweep.configuration(entry.num).read_text(encoding="utf-8")) for entry in entries)
    training: dict[str, Any] = next((raw for raw in raws if "tracking" in raw), {})
    return follow(training, [Path(entry.run) for entry in entries], console)


def work(
    sweep: SweepDirectory,
    entries: Sequence[Entry],
    at_once: int,
    stop: Callable[[], bool],
    job: str,
    console: Console,
    rank: int = 0,
) -> dict[int, State]:
    """Work on the tasks, `at_once` at a time; returns the states they ended in, by number.

    The console gets a line when a task begins and when it ends. A stop request is handed on to those that work; those
    that have not begun do not begin. `rank`: this machine's place in a run that is spread over several; all but the
    first note nothing.
    """

    def say(line: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')}  {line}", soft_wrap=True)

    os.environ[JOB_VARIABLE] = job  # for the tasks, and for us where we note how one of them ended
    workers = [Worker(share) for share in shares(at_once)]
    waiting, idle, states = list(entries), list(workers), dict[int, State]()
    working: dict[Worker, Entry] = {}
    total, stopping, start = len(entries), False, time.monotonic()
    while working or (waiting and not stop()):
        while waiting and idle and not stop():
            worker, entry = idle.pop(0), waiting.pop(0)
            worker.begin(sweep.configuration(entry.num), _log(entry, rank))
            working[worker] = entry
            say(f"run {total - len(waiting)} of {total} begins      {entry.title}")
        if stop() and not stopping:
            stopping = True
            again = "; Ctrl-C again ends them at once" if job.startswith(LOCAL) else ""
            say(f"stopping: {len(working)} runs save themselves, {len(waiting)} do not begin{again}")
            for worker in working:
                worker.stop()
        select.select(working, [], [], POLL_S)
        for worker, entry in list(working.items()):
            if (end := worker.poll()) is not None:
                del working[worker]
                idle.append(worker)
                state = states[entry.num] = _state(entry, end, stop(), rank)
                left = (time.monotonic() - start) / len(states) * (total - len(states))
                more = f", {format_time(left)} left" if len(states) < total and not stopping else ""
                say(f"{len(states)} of {total} done{more}: {state}  {entry.title}")
                # A failure may outlive its task: after an error of CUDA's a process can use no GPU any more.
                if state is State.FAILED or not waiting:
                    worker.dismiss()
    for worker in workers:
        worker.close()
    return states


def _log(entry: Entry, rank: int) -> Path:
    """The task's log, in a folder that is there."""
    log = entry.task.log if rank == 0 else entry.task.log.with_suffix(f".rank{rank}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _state(entry: Entry, end: State | int, stopped: bool, rank: int) -> State:
    """The state that the task reported. Where its process died over it, its end is noted here."""
    if isinstance(end, State):
        return end
    state = State.INTERRUPTED if stopped else State.FAILED
    how = f"killed by {signal.Signals(-end).name}" if end < 0 else f"its process ended with code {end}"
    guess = "out of memory, or by hand" if end < 0 else "see its log"
    why = "before it had saved itself" if stopped else guess
    if rank == 0:
        known = {name: value for name, value in entry.task.noted().items() if name == "epoch"}
        with suppress(OSError):  # of a full disk: it is seen as killed
            entry.task.set_status(state, **known, message=f"{how}, {why}; the same command goes on from its checkpoint")
    return state
