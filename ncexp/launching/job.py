"""What runs inside a SLURM job: some tasks of a sweep, at once, and what becomes of the job when they stop."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ncexp.launching.pool import followed, work
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.record import State
from ncexp.record.console import literal_console
from ncexp.record.text import say

#: After SIGTERM: how long a job whose tasks have been saved waits for SLURM to end it. Ending by itself, within the
#: grace time of a preemption, would mean to SLURM that it was done, and it would not be requeued.
LINGER_S = 300.0


class TasksFailed(RuntimeError):
    """Raised at the job's end, so that SLURM says FAILED."""


class Job:
    """The callable that submitit pickles: ``Job(time limit in minutes)(sweep folder, numbers)``."""

    def __init__(self, limit_min: int) -> None:
        self._limit_min = limit_min
        self._times_limited = 0  # pickled with it when it is requeued

    def __call__(self, folder: str, numbers: Sequence[int]) -> dict[int, str]:
        """Work on the tasks; returns the states they ended in by number.

        The warning before a time limit lets each task save itself where it can go on; then submitit requeues the job,
        which goes on with them. Raises TasksFailed where a task failed or was stopped.
        """
        sweep = SweepDirectory(Path(folder))
        entries = [entry for entry in sweep.entries() if entry.num in numbers]
        done = _done_before(entries)
        if not (entries := [entry for entry in entries if entry.num not in done]):
            return done
        from ncexp.training import JOB_SIGNALS, StopRequest  # torch takes seconds

        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's; called amid a step it would kill the training
        with StopRequest(JOB_SIGNALS, patient=True) as stop:
            name, rank = self._introduce(entries)
            console = literal_console(width=120)
            with followed(sweep, entries, console) if rank == 0 else nullcontext():
                states = work(sweep, entries, len(entries), stop, name, console, rank)
            unfinished = len(states) < len(entries) or State.INTERRUPTED in states.values()
            if stop() and unfinished and signal.SIGUSR2 not in stop.received:
                _linger()
        if stop() and unfinished and signal.SIGUSR2 in stop.received:
            self._times_limited += 1
            if rank == 0:
                self._note_limit(entries, states)
            requeue(signal.SIGUSR2, None)  # comes back only on the other ranks, which must not end the job before it
            _linger()
        if faults := {num: state for num, state in states.items() if state in (State.FAILED, State.INTERRUPTED)}:
            raise TasksFailed(", ".join(f"run {num} {state}" for num, state in sorted(faults.items())))
        return done | {num: str(state) for num, state in states.items()}

    def checkpoint(self, folder: str, numbers: Sequence[int]) -> Any:
        """What a requeued job does: the same again, which goes on with what is not finished."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder, numbers)

    def _note_limit(self, entries: Sequence[Entry], states: Mapping[int, State]) -> None:
        """Add to the message of interrupted tasks that the time limit stopped them, and what would help."""
        for entry in entries:
            if states.get(entry.num) is State.INTERRUPTED:
                status = entry.task.status() or {}
                said = {name: status[name] for name in ("epoch", "message") if name in status}
                said["message"] = (
                    f"{said.get('message', 'stopped')}; stopped by the time limit of {self._limit_min} min, "
                    f"{self._times_limited} times in this job: raise hydra.launcher.timeout_min, or max_num_timeout"
                )
                entry.task.set_status(State.INTERRUPTED, **said)

    def _introduce(self, entries: Sequence[Entry]) -> tuple[str, int]:
        """Name the job for people, and prepare torch.distributed for several; returns the job's id and the rank."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        environment = JobEnvironment()
        if environment.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        if environment.global_rank == 0:
            more = f"+{len(entries) - 1}" if len(entries) > 1 else ""
            rename = ["scontrol", "update", f"JobId={environment.job_id}", f"JobName={entries[0].title}{more}"]
            renamed = subprocess.run(rename, check=False)
            say(f"job {environment.job_id} {'renamed' if renamed.returncode == 0 else 'keeps its name'}")
        return environment.job_id, environment.global_rank


def _done_before(entries: Sequence[Entry]) -> dict[int, str]:
    """What this very job brought to its end, before a preemption put it back into the queue: number → state."""
    from submitit import JobEnvironment

    environment = JobEnvironment()
    if environment.num_tasks > 1:  # on another machine a file may be seen late, and the others would wait for this one
        return {}
    noted = {entry.num: entry.task.noted() for entry in entries}
    ours = {num: status for num, status in noted.items() if status.get("job") == environment.job_id}
    return {
        num: str(status["state"])
        for num, status in ours.items()
        if State(status["state"]).final or status["state"] == State.PRUNED
    }


def _linger() -> None:
    say(f"saved; waiting at most {LINGER_S:.0f} s for SLURM to end this job")
    time.sleep(LINGER_S)
