"""Wait for a sweep's jobs by looking at the queue and at the runs' own files, and tell how each run ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ncexp.launching.slurm import SlurmUnavailable, jobs_in_queue
from ncexp.launching.states import ACTIVE, state_of, tell_counts
from ncexp.launching.sweep_directory import Entry, SweepDirectory

#: States of which nothing needs to be told.
QUIET = ("completed", "queued", "new")
#: A controller that does not answer may be restarting: it is waited for this many times longer than a result.
CONTROLLER_PATIENCE = 10


def look(entries: Sequence[Entry]) -> dict[int, str]:
    """How every run stands now, by number; SLURM is asked only where a job of it is concerned."""
    queue = None
    if any(not (entry.run.job() or "local:").startswith("local:") for entry in entries):
        try:
            queue = jobs_in_queue()
        except SlurmUnavailable:
            queue = None  # what only SLURM could tell is told as unknown
    else:
        queue = {}
    return {entry.num: state_of(entry.run, queue) for entry in entries}


def wait(sweep: SweepDirectory, console: Console, poll_s: float, grace_s: float) -> dict[int, str]:
    """Look until no run is queued or running; answers the states.

    A run whose job has left the queue without a result is waited for `grace_s` more seconds, in which a file system
    may still bring its status; then it is lost. Nothing is waited for without end but what SLURM itself keeps.
    """
    entries = sweep.entries()
    told, quiet_since = "", time.monotonic()
    while True:
        states = look(entries)
        if (counts := tell_counts(states.values())) != told:
            console.print(f"{time.strftime('%H:%M:%S')}  {counts}", soft_wrap=True)
            told = counts
        found = set(states.values())
        if not found & {*ACTIVE, "unknown", "interrupted", "lost"}:
            return states
        if found & set(ACTIVE):
            quiet_since = time.monotonic()
        patience = grace_s * (CONTROLLER_PATIENCE if "unknown" in found else 1)
        if time.monotonic() - quiet_since >= patience:
            return states
        time.sleep(poll_s)


def print_table(console: Console, sweep: SweepDirectory, states: dict[int, str], every: bool = False) -> None:
    """Two lines for each run that is not completed (each, where `every`): its state and why, its log; then counts."""
    entries = [entry for entry in sweep.entries() if every or states[entry.num] not in QUIET]
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        state, status = states[entry.num], entry.run.status() or {}
        epoch = f"epoch {status['epoch']}" if "epoch" in status else ""
        line = f"{entry.num:03d}  {entry.name:{width}}  {state:11}  {epoch:10}  {_why(entry, state, status)}"
        console.print(line.rstrip(), soft_wrap=True, markup=False)
        if state not in QUIET:
            console.print(f"     log {log_of(sweep, entry)}", soft_wrap=True, markup=False)
    console.print(f"{sweep.path.name}: {tell_counts(states.values())}", soft_wrap=True)


def log_of(sweep: SweepDirectory, entry: Entry) -> Path:
    """The run's own log, or, where it never began one, its job's."""
    if entry.run.log.exists():
        return entry.run.log
    return sweep.jobs / f"{entry.job}_0_log.out"


def _why(entry: Entry, state: str, status: dict[str, Any]) -> str:
    """What the run said last, or what can be said of one that said nothing."""
    if state == "lost":
        return f"job {entry.run.job()} left without a result: node failure, kill -9, or cancelled before it began"
    return str(status.get("message", "")) if state in ("failed", "diverged", "interrupted") else ""
