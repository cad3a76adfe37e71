"""Several runs at once on one machine, each a process of its own, with its own log and its own share of the CPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ncexp.interruption import JOB_SIGNALS, StopRequest
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.run_directory import EXIT, JOB_VARIABLE

#: How often the pool looks after its processes.
POLL_S = 0.2


@dataclass(frozen=True)
class Share:
    """What each of several runs gets of a machine: CPUs for torch's threads, and the GPUs that go round."""

    cpus: int
    gpus: tuple[str, ...] = ()

    @classmethod
    def of_machine(cls, at_once: int) -> Share:
        """The CPUs that this process may use (of a job: those it asked for), divided, and the GPUs it sees."""
        allowed = len(os.sched_getaffinity(0))
        asked = int(os.environ.get("SLURM_CPUS_PER_TASK", allowed))
        # One run alone sees them all: it may be spread over them.
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "") if at_once > 1 else ""
        return cls(cpus=max(1, min(allowed, asked) // at_once), gpus=tuple(filter(None, seen.split(","))))

    def environment(self, place: int) -> dict[str, str]:
        """The variables of the run at `place`, 0 to at_once - 1."""
        threads = {name: str(self.cpus) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        return threads | ({"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if self.gpus else {})


def work(
    sweep: SweepDirectory, entries: Sequence[Entry], at_once: int, stop: StopRequest, job: str, rank: int = 0
) -> dict[int, str]:
    """Train the runs, `at_once` at a time; answers their outcomes, in the words of EXIT, by number.

    A stop request is handed on to the runs that train; those that have not begun do not begin. `rank`: this machine's
    place in a run that is spread over several; all but the first keep quiet.
    """
    share = Share.of_machine(at_once)
    waiting, places, outcomes = list(entries), list(range(at_once)), dict[int, str]()
    running: dict[int, tuple[Entry, subprocess.Popen[bytes]]] = {}
    handed_on = False
    os.environ[JOB_VARIABLE] = job  # for the runs, and for us where we write down how one of them ended
    while running or (waiting and not stop()):
        while waiting and places and not stop():
            place, entry = places.pop(0), waiting.pop(0)
            running[place] = (entry, _start(sweep, entry, share.environment(place), rank))
        if stop() and not handed_on:
            handed_on = True
            for _, process in running.values():
                process.send_signal(signal.SIGTERM)
        time.sleep(POLL_S)
        for place, (entry, process) in list(running.items()):
            if process.poll() is not None:
                del running[place]
                places.append(place)
                outcomes[entry.num] = _outcome(entry, process.returncode, stop(), rank)
    return outcomes


def _start(sweep: SweepDirectory, entry: Entry, environment: Mapping[str, str], rank: int) -> subprocess.Popen[bytes]:
    log = entry.run.log if rank == 0 else entry.run.log.with_suffix(f".rank{rank}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", "-m", "ncexp", "run-frozen", str(sweep.configuration(entry.num))]
    # Held back until the process can catch them: before, they would kill it.
    signal.pthread_sigmask(signal.SIG_BLOCK, JOB_SIGNALS)
    try:
        with log.open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environment})
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, JOB_SIGNALS)


def _outcome(entry: Entry, code: int, stopped: bool, rank: int) -> str:
    """What a run's exit code says; one that was killed could not write down its own end, so we do."""
    words = {number: word for word, number in EXIT.items()}
    if code in words:
        return words[code]
    state = "interrupted" if stopped else "failed"
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    why = "before it had saved itself" if stopped else "out of memory, or by hand"
    if rank == 0:
        epoch = (entry.run.status() or {}).get("epoch")
        entry.run.set_status(state, epoch=epoch, message=f"{how}, {why}; the same command goes on from its checkpoint")
    return state
