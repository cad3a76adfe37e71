"""Wait for a sweep's jobs by looking at the queue and at the runs' own files, and tell how each run ended."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ncexp.launching.slurm import SlurmUnavailable, jobs_in_queue
from ncexp.launching.states import ACTIVE, state_of, tell_counts
from ncexp.launching.sweep_directory import Entry, SweepDirectory

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
    """The counts, and a line for each run that is not completed (each run, where `every`): why, and its log."""
    table = Table(box=None, pad_edge=False)
    for title in ("run", "state", "epoch", "what it said; its log"):
        table.add_column(title, overflow="fold")
    for entry in sweep.entries():
        state = states[entry.num]
        if not every and state in ("completed", "queued", "new"):
            continue
        status = entry.run.status() or {}
        message = str(status.get("message", "")) if state in ("failed", "diverged", "interrupted") else ""
        if state == "lost":
            message = f"job {entry.run.job()} left without a result: node failure, kill -9 or scancel"
        if state not in ("completed", "queued", "new"):
            message = f"{message}\n{_log(sweep, entry)}".strip()
        table.add_row(f"{entry.num:03d} {entry.name}", state, str(status.get("epoch", "–")), message)
    if table.row_count:
        console.print(table)
    console.print(f"{sweep.path.name}: {tell_counts(states.values())}", soft_wrap=True)


def _log(sweep: SweepDirectory, entry: Entry) -> str:
    """The run's own log, or, where it never began one, its job's."""
    if entry.run.log.exists():
        return str(entry.run.log)
    return str(sweep.jobs / f"{entry.job}_0_log.out")
