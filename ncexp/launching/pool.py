"""Several runs at once on one machine, in as many lasting processes, each with its own share of CPUs and GPUs."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from ncexp.interruption import StopRequest
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.worker import Worker
from ncexp.run_directory import JOB_VARIABLE

#: How often the pool looks whether it was asked to stop, and whether a process has died.
POLL_S = 0.2
#: The GPUs that this machine, or this container, shows.
GPU_NODES = "/dev/nvidia[0-9]*"


@dataclass(frozen=True)
class Share:
    """What each of several runs gets of a machine: CPUs for torch's threads, and the GPUs that go round."""

    cpus: int
    gpus: tuple[str, ...] = ()

    @classmethod
    def of_machine(cls, at_once: int) -> Share:
        """The CPUs that this process may use (of a job: those it asked for), divided, and the GPUs it sees.

        CUDA_VISIBLE_DEVICES decides which those are where it is set, also to nothing; else they are all there are.
        """
        allowed = len(os.sched_getaffinity(0))
        asked = int(os.environ.get("SLURM_CPUS_PER_TASK", allowed))
        # One run alone keeps them all: it may be spread over them.
        gpus = _visible_gpus() if at_once > 1 else ()
        return cls(cpus=max(1, min(allowed, asked) // at_once), gpus=gpus)

    def environment(self, place: int) -> dict[str, str]:
        """The variables of the runs at `place`, 0 to at_once - 1."""
        threads = {name: str(self.cpus) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        return threads | ({"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if self.gpus else {})


def _visible_gpus() -> tuple[str, ...]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:  # the device nodes are counted: asking torch or the driver would take seconds, and GPU memory
        return tuple(str(index) for index in range(len(glob(GPU_NODES))))
    return tuple(filter(None, named.split(",")))


def work(
    sweep: SweepDirectory, entries: Sequence[Entry], at_once: int, stop: StopRequest, job: str, rank: int = 0
) -> dict[int, str]:
    """Train the runs, `at_once` at a time; answers their outcomes, in the words of EXIT, by number.

    A stop request is handed on to the runs that train; those that have not begun do not begin. `rank`: this machine's
    place in a run that is spread over several; all but the first keep quiet.
    """
    share = Share.of_machine(at_once)
    os.environ[JOB_VARIABLE] = job  # for the runs, and for us where we write down how one of them ended
    workers = [Worker(share.environment(place)) for place in range(at_once)]
    waiting, idle, outcomes = list(entries), list(workers), dict[int, str]()
    training: dict[Worker, Entry] = {}
    handed_on = False
    while training or (waiting and not stop()):
        while waiting and idle and not stop():
            worker, entry = idle.pop(0), waiting.pop(0)
            worker.train(sweep.configuration(entry.num), _log(entry, rank))
            training[worker] = entry
        if stop() and not handed_on:
            handed_on = True
            for worker in training:
                worker.stop()
        select.select(training, [], [], POLL_S)
        for worker, entry in list(training.items()):
            if (end := worker.poll()) is not None:
                del training[worker]
                idle.append(worker)
                outcomes[entry.num] = _outcome(entry, end, stop(), rank)
                # A failure may outlive its run: after an error of CUDA's a process can use no GPU any more.
                if outcomes[entry.num] == "failed" or not waiting:
                    worker.dismiss()
    for worker in workers:
        worker.close()
    return outcomes


def _log(entry: Entry, rank: int) -> Path:
    """The run's log, in a folder that is there."""
    log = entry.run.log if rank == 0 else entry.run.log.with_suffix(f".rank{rank}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _outcome(entry: Entry, end: str | int, stopped: bool, rank: int) -> str:
    """The run's own word; a run whose process died over it could not write down its end, so we do."""
    if isinstance(end, str):
        return end
    state = "interrupted" if stopped else "failed"
    how = f"killed by {signal.Signals(-end).name}" if end < 0 else f"its process ended with code {end}"
    guess = "out of memory, or by hand" if end < 0 else "see its log"
    why = "before it had saved itself" if stopped else guess
    if rank == 0:
        epoch = (entry.run.status() or {}).get("epoch")
        entry.run.set_status(state, epoch=epoch, message=f"{how}, {why}; the same command goes on from its checkpoint")
    return state
