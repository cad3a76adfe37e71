"""Wait for a sweep's jobs by reading the queue and the tasks' own files, and print how each task ended."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ncexp.launching.local_job import LOCAL
from ncexp.launching.slurm import Queue, SlurmUnavailable, jobs_in_queue
from ncexp.launching.states import fault_of, job_of, queued_job, state_of
from ncexp.launching.sweep_directory import Entry, SweepDirectory, last_lines
from ncexp.record import DamagedFile, State, format_counts

#: What SLURM says of a job that it ends, the sentence with numbers first, and what would help.
_ENDED_BY_SLURM = {
    r"memory limit \(": "hydra.launcher.mem_gb",
    r"memory limit|oom.?kill|out of memory": "hydra.launcher.mem_gb",
    r"due to time limit": "hydra.launcher.timeout_min",
}
#: A controller that does not respond may be restarting: it is waited for this many times longer than a result.
CONTROLLER_PATIENCE = 10


def ask_queue(entries: Sequence[Entry]) -> Queue | None:
    """What squeue says, asked only where a job of SLURM's is concerned; None where it does not respond."""
    if all((job_of(entry.task) or LOCAL).startswith(LOCAL) for entry in entries):
        return {}
    try:
        return jobs_in_queue()
    except SlurmUnavailable:
        return None  # what only SLURM could tell is unknown


def current_states(entries: Sequence[Entry], queue: Queue | None) -> dict[int, State]:
    """How every task stands now, by number."""
    return {entry.num: state_of(entry.task, queue) for entry in entries}


def jobs_put_back(entries: Sequence[Entry], states: Mapping[int, State], queue: Queue | None) -> set[str]:
    """The jobs that wait in the queue though all their tasks are through: they were preempted just after that."""
    through = [entry for entry in entries if states[entry.num].final]
    found = {str(entry.job): queued_job(entry.task, queue or {}) for entry in through}
    waiting = {name for name, job in found.items() if job is not None and job.waits}
    return waiting - {str(entry.job) for entry in entries if not states[entry.num].final}


def queue_reasons(entries: Sequence[Entry], states: Mapping[int, State], queue: Queue | None) -> dict[int, str]:
    """Number → why its job waits, in SLURM's words, of the queued tasks of which it says so."""
    queued = [entry for entry in entries if states[entry.num] is State.QUEUED]
    found = {entry.num: queued_job(entry.task, queue or {}) for entry in queued}
    return {num: job.reason for num, job in found.items() if job is not None and job.reason}


def _words_of_slurm(log: Path) -> str:
    """Why SLURM ended a job, in its own words, and what would help; empty where it did not say so in the job's log."""
    try:
        lines = last_lines(log, 100)
    except (FileNotFoundError, DamagedFile):
        return ""
    said = [line for line in lines if re.match(r"(slurmstepd(-\S+)?|srun): ", line)]  # -NODE, of SLURM 22
    for words, advice in _ENDED_BY_SLURM.items():
        for line in reversed(said):
            if re.search(words, line, re.IGNORECASE):
                return f"{line.partition('error: ')[2] or line}: raise {advice}"
    return ""


def in_trouble(state: State) -> bool:
    """Whether a person has to do something about it."""
    return not state.active and state.exit_code != 0


def wait(sweep: SweepDirectory, console: Console, poll_s: float, grace_s: float) -> dict[int, State]:
    """Wait until no task is queued or running; returns the states.

    A task whose job has left the queue without a result is waited for `grace_s` more seconds, in which a file system
    may still bring its status; then it is lost. Nothing is waited for without end but what SLURM itself keeps.
    """
    entries = sweep.entries()
    printed, quiet_since = "", time.monotonic()
    while True:
        queue = ask_queue(entries)
        states = current_states(entries, queue)
        reasons = sorted(set(queue_reasons(entries, states, queue).values()))
        if (text := "; ".join([format_counts(states.values()), *reasons])) != printed:
            console.print(f"{time.strftime('%H:%M:%S')}  {text}", soft_wrap=True, markup=False)
            printed = text
        unsettled = {state for state in states.values() if not state.final} - {State.FAILED, State.DAMAGED, State.NEW}
        if not unsettled:
            return states
        if any(state.active for state in unsettled):
            quiet_since = time.monotonic()
        patience = grace_s * (CONTROLLER_PATIENCE if State.UNKNOWN in unsettled else 1)
        if time.monotonic() - quiet_since >= patience:
            return states
        time.sleep(poll_s)


def print_table(
    console: Console, sweep: SweepDirectory, states: Mapping[int, State], queue: Queue | None, every: bool = False
) -> None:
    """A line for each task that is running or in trouble (each, where `every`): its state, its last trained epoch, why
    it stands so, and its log where there is one; then why jobs wait; then the counts.
    """
    entries = sweep.entries()
    reasons = queue_reasons(entries, states, queue)
    shown = [one for one in entries if every or states[one.num].exit_code != 0]
    width = max((len(entry.name) for entry in shown), default=0)
    for entry in shown:
        state, (epoch, fault) = states[entry.num], _trained(entry)
        why = " ".join((fault or reasons.get(entry.num) or _why(sweep, entry, state)).split())
        line = f"{entry.num:03d}  {entry.name:{width}}  {state:11}  {epoch:10}  {why}"
        console.print(line.rstrip(), soft_wrap=True, markup=False)
        if state.exit_code != 0 and (log := sweep.log_of(entry)):
            console.print(f"     log {log}", soft_wrap=True, markup=False)
    for reason, count in Counter(reasons.values()).most_common():
        console.print(f"{count} queued: {reason}", soft_wrap=True, markup=False)
    console.print(f"{sweep.path.name}: {format_counts(states.values())}", soft_wrap=True, markup=False)


def _trained(entry: Entry) -> tuple[str, str]:
    """The last trained epoch, for people, empty before the first; and what is wrong with the journal, if it is."""
    try:
        epoch = entry.last_epoch()
    except ValueError as error:
        return "", str(error)
    return (f"epoch {epoch}" if epoch else ""), ""


def _why(sweep: SweepDirectory, entry: Entry, state: State) -> str:
    """What the task said last, or what can be said of one that said nothing."""
    if state in (State.LOST, State.KILLED) and (words := _words_of_slurm(sweep.job_log(entry))):
        return words
    if state is State.LOST:
        causes = "node failure, kill -9, the time limit before it had saved itself, or cancelled before it began"
        return f"job {job_of(entry.task)} left without a result: {causes}"
    if state is State.KILLED:
        return "its process ended without a word: kill -9, out of memory, or a disk too full for its status"
    return (fault_of(entry.task) or str(entry.task.noted().get("message", ""))) if in_trouble(state) else ""
