"""Several tasks at once on one machine, in as many lasting processes, each with its own share of CPUs and GPUs."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.worker import Worker
from ncexp.record import JOB_VARIABLE, State
from ncexp.tracking import follow

#: How often the pool checks whether it was asked to stop, and whether a process has died.
POLL_S = 0.2
#: The GPUs that this machine, or this container, shows.
GPU_NODES = "/dev/nvidia[0-9]*"


@dataclass(frozen=True)
class Share:
    """What each of several tasks gets of a machine: CPUs for torch's threads, and the GPUs that go round."""

    cpus: int
    gpus: tuple[str, ...] = ()

    @classmethod
    def of_machine(cls, at_once: int) -> Share:
        """The CPUs that this process may use (of a job: those it asked for), divided, and the GPUs it sees.

        CUDA_VISIBLE_DEVICES decides which those are where it is set, also to nothing; else they are all there are.
        """
        allowed = len(os.sched_getaffinity(0))
        asked = int(os.environ.get("SLURM_CPUS_PER_TASK", allowed))
        # One task alone keeps them all: it may be spread over them.
        gpus = _visible_gpus() if at_once > 1 else ()
        return cls(cpus=max(1, min(allowed, asked) // at_once), gpus=gpus)

    def environment(self, place: int) -> dict[str, str]:
        """The variables of the tasks at `place`, 0 to at_once - 1."""
        threads = {name: str(self.cpus) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        return threads | ({"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if self.gpus else {})


def _visible_gpus() -> tuple[str, ...]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:  # the device nodes are counted: asking torch or the driver would take seconds, and GPU memory
        return tuple(str(index) for index in range(len(glob(GPU_NODES))))
    return tuple(filter(None, named.split(",")))


class Watcher:
    """Who is to know how the tasks go; this one does nothing with it."""

    def begun(self, entry: Entry) -> None:
        """A worker has this task now."""

    def ended(self, entry: Entry, state: State) -> None:
        """It ended in this state."""

    def stopping(self) -> None:
        """A stop request came: those that work are asked to save themselves."""


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
    rank: int = 0,
    watcher: Watcher | None = None,
) -> dict[int, State]:
    """Work on the tasks, `at_once` at a time; returns the states they ended in, by number.

    A stop request is handed on to those that work; those that have not begun do not begin. `rank`: this machine's
    place in a run that is spread over several; all but the first keep quiet.
    """
    share = Share.of_machine(at_once)
    os.environ[JOB_VARIABLE] = job  # for the tasks, and for us where we note how one of them ended
    workers = [Worker(share.environment(place)) for place in range(at_once)]
    waiting, idle, states = list(entries), list(workers), dict[int, State]()
    working: dict[Worker, Entry] = {}
    handed_on, watcher = False, watcher or Watcher()
    while working or (waiting and not stop()):
        while waiting and idle and not stop():
            worker, entry = idle.pop(0), waiting.pop(0)
            worker.begin(sweep.configuration(entry.num), _log(entry, rank))
            working[worker] = entry
            watcher.begun(entry)
        if stop() and not handed_on:
            handed_on = True
            watcher.stopping()
            for worker in working:
                worker.stop()
        select.select(working, [], [], POLL_S)
        for worker, entry in list(working.items()):
            if (end := worker.poll()) is not None:
                del working[worker]
                idle.append(worker)
                states[entry.num] = _state(entry, end, stop(), rank)
                watcher.ended(entry, states[entry.num])
                # A failure may outlive its task: after an error of CUDA's a process can use no GPU any more.
                if states[entry.num] is State.FAILED or not waiting:
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
    """The task's own word; a task whose process died over it could not note its end, so we do."""
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
