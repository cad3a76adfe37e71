"""SLURM's own commands, the few that are needed: squeue, scontrol, scancel. Never sacct: many clusters have none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

#: Longest wait for a controller that does not respond.
PATIENCE_S = 30.0


class SlurmUnavailable(RuntimeError):
    """A command of SLURM is not installed, failed, or did not respond."""


def is_installed() -> bool:
    """Whether this machine has a command of SLURM; nothing is asked of it."""
    return any(shutil.which(command) for command in ("sbatch", "scontrol", "squeue"))


def call(*command: str) -> str:
    """What a command of SLURM prints. Raises SlurmUnavailable with what it complained of."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE_S, check=False
        )
    except FileNotFoundError:
        raise SlurmUnavailable(
            f"{command[0]}: expected SLURM's commands on this machine, got none. Log in to the cluster, or use "
            "hydra/launcher=local."
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmUnavailable(f"{command[0]}: expected a response within {PATIENCE_S:.0f} s, got none.") from None
    if done.returncode != 0:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        raise SlurmUnavailable(
            f"{command[0]}: expected SLURM to do it, got exit code {done.returncode} ({said}). Try again, or see sinfo."
        )
    return done.stdout


@dataclass(frozen=True)
class QueuedJob:
    """What squeue says of a job: its state; why it waits, empty where it does not; the name of its submission, None
    where it has none: the last word of its comment.
    """

    state: str
    reason: str
    submission: str | None

    @property
    def waits(self) -> bool:
        """Whether it has not begun, or not begun again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


#: Job (``12``, or ``12_3`` of an array) → what the queue says of it.
Queue = Mapping[str, QueuedJob]


def jobs_in_queue() -> Queue:
    """This user's jobs that wait or run. Raises SlurmUnavailable."""
    # The user by number, as the system knows us: names in variables may say something else.
    listing = call("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%r|%k")
    return dict(_parse(line) for line in listing.splitlines() if line.strip())


def known_queue() -> Queue | None:
    """As `jobs_in_queue`; None where SLURM is not there or does not respond."""
    try:
        return jobs_in_queue()
    except SlurmUnavailable:
        return None


def _parse(line: str) -> tuple[str, QueuedJob]:
    job, state, reason, comment = line.strip().split("|", maxsplit=3)
    *_, submission = ["", *comment.split()]
    waits_for = "" if reason == "None" else reason
    return job, QueuedJob(state, waits_for, None if submission in ("", "(null)") else submission)


def max_array_size() -> int:
    """How many tasks one array may have. Raises SlurmUnavailable."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", call("scontrol", "show", "config"), re.MULTILINE)
    if not found:
        raise SlurmUnavailable("scontrol show config: expected MaxArraySize, got none.")
    return int(found[1])


def cancel(jobs: Iterable[str]) -> None:
    """scancel; arrays by hundreds at a time. Raises SlurmUnavailable."""
    ids = list(jobs)
    for first in range(0, len(ids), 200):
        call("scancel", *ids[first : first + 200])


@contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Hide the surrounding job's variables: sbatch would hand them on, and srun in the new job would obey them."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("SLURM_", "SRUN_", "SBATCH_", "SUBMITIT_")) and name != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
