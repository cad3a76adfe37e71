"""What runs inside a SLURM job: some tasks of a sweep, at once, and what becomes of the job when they stop."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ncexp.launching import slurm
from ncexp.launching.pool import followed, work
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.record import State
from ncexp.record.console import literal_console
from ncexp.record.text import say

#: After SIGTERM: how long a job whose tasks have been saved waits for SLURM to end it. Ending by itself, within the
#: grace time of a preemption, would mean to SLURM that it was done, and it would not be requeued.
LINGER_S = 300.0
#: SLURM looks at its jobs' limits once a minute, and may warn so much earlier.
EARLY_S = 90.0


@dataclass(frozen=True)
class Limits:
    """Of a job: its time limit; how long before it is warned; how often it is requeued after it."""

    timeout_min: int
    signal_delay_s: int
    max_num_timeout: int


def carry_out(sweep: SweepDirectory, name: str, limits: Limits) -> int:
    """Work on the tasks that the manifest gives to this job of the array `name`; returns the job's exit code.

    The warning before a time limit lets each task save itself where it can go on; then SLURM is asked to requeue the
    job, which goes on with them. 1, which SLURM calls FAILED, where a task failed or was stopped.
    """
    began = time.monotonic()
    job, rank, processes = f"{name}_{os.environ['SLURM_ARRAY_TASK_ID']}", *_place()
    mine = [entry for entry in sweep.entries() if entry.job == job]
    # On another machine a file may be seen late: of several processes one would be through, and the others wait for it.
    entries = [entry for entry in mine if processes > 1 or not _is_through(entry, job)]
    if not entries:
        say(f"nothing is left of the {len(mine)} runs of {job}")
        return 0 if mine else State.FAILED.exit_code
    from ncexp.training import JOB_SIGNALS, StopRequest  # torch takes seconds

    with StopRequest(JOB_SIGNALS, patient=True) as stop:
        if rank == 0:
            _introduce(entries)
        console = literal_console(width=120)
        with followed(sweep, entries, console) if rank == 0 else nullcontext():
            states = work(sweep, entries, len(entries), stop, job, console, rank)
        stopped = [entry for entry in entries if states.get(entry.num) is State.INTERRUPTED]
        if stop() and (stopped or len(states) < len(entries)):
            if rank == 0 and signal.SIGUSR2 in stop.received:
                near = time.monotonic() - began >= 60 * limits.timeout_min - limits.signal_delay_s - EARLY_S
                _requeue(stopped, limits, sweep.jobs / f"{job}_limited" if near else None)
            else:
                say(f"saved; waiting at most {LINGER_S:.0f} s for SLURM to end this job")
                time.sleep(LINGER_S)
    faults = {num: state for num, state in states.items() if state in (State.FAILED, State.INTERRUPTED)}
    say(", ".join(f"run {num} {state}" for num, state in sorted(states.items())))
    return State.FAILED.exit_code if faults else 0


def _place() -> tuple[int, int]:
    """This process's rank and how many processes the run has; of several, torch.distributed is told how to meet."""
    rank, processes = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
    if processes > 1:
        os.environ.update(
            MASTER_ADDR=slurm.call("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()[0],
            MASTER_PORT=str(20_000 + int(os.environ["SLURM_JOB_ID"]) % 40_000),
            RANK=str(rank),
            WORLD_SIZE=str(processes),
            LOCAL_RANK=os.environ["SLURM_LOCALID"],
        )
    return rank, processes


def _is_through(entry: Entry, job: str) -> bool:
    """Whether this very job brought it to its end, before a preemption put it back into the queue."""
    status = entry.task.noted()
    return status.get("job") == job and State(status["state"]).final


def _number() -> str:
    """What SLURM calls this job."""
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def _introduce(entries: Sequence[Entry]) -> None:
    """Name the job for people."""
    more = f"+{len(entries) - 1}" if len(entries) > 1 else ""
    rename = ["scontrol", "update", f"JobId={_number()}", f"JobName={entries[0].title}{more}"]
    renamed = subprocess.run(rename, check=False)
    say(f"job {_number()} {'renamed' if renamed.returncode == 0 else 'keeps its name'}")


def _requeue(stopped: Sequence[Entry], limits: Limits, marks: Path | None) -> None:
    """After a warning: have SLURM begin the job again, unless its time limit ended it too often.

    marks: where it is counted how often the time limit ended the job, which is then said of the tasks that it stopped;
    None: it was not the limit. SLURM warns before a preemption, too, which may come as often as it likes.
    """
    if marks is not None:
        with marks.open("ab") as file:
            file.write(b".")
            times = file.tell()
        for entry in stopped:
            status = entry.task.noted()
            message = (
                f"{status.get('message', 'stopped')}; stopped by the time limit of {limits.timeout_min} min, {times} "
                "times in this job: raise hydra.launcher.timeout_min, or max_num_timeout"
            )
            known = {name: value for name, value in status.items() if name == "epoch"}
            entry.task.set_status(State.INTERRUPTED, **known, message=message)
        if times > limits.max_num_timeout:
            return
    slurm.call("scontrol", "requeue", _number())
