"""SLURM's own commands, the few that are needed: squeue, scontrol, scancel. Never sacct: many clusters have none."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Longest wait for a controller that does not respond.
PATIENCE_S = 30.0
#: Variables of a job that this process may run in: sbatch would hand them on, and srun in the new job would obey them.
_OF_JOBS, _OF_SITES = ("SLURM_", "SRUN_", "SBATCH_"), ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")


class SlurmUnavailable(RuntimeError):
    """A command of SLURM is not installed, failed, or did not respond."""


def is_installed() -> bool:
    """Whether this machine has a command of SLURM; nothing is asked of it."""
    return any(shutil.which(command) for command in ("sbatch", "scontrol", "squeue"))


def call(*command: str) -> str:
    """What a command of SLURM prints, outside of any job. Raises SlurmUnavailable with what it complained of."""
    ours = {name: word for name, word in os.environ.items() if name in _OF_SITES or not name.startswith(_OF_JOBS)}
    try:
        done = subprocess.run(
            command, env=ours, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE_S, check=False
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
    """What squeue says of a job: SLURM's number for it, its state, and why it waits, empty where it does not."""

    number: str
    state: str
    reason: str

    @property
    def waits(self) -> bool:
        """Whether it has not begun, or not begun again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


#: Job → what the queue says of it. A job is called by the name that the last word of its comment is, and by its place
#: in an array: ``ncexp-0123456789ab_3``. SLURM's own numbers would not do: after a restart it counts from 1 again.
Queue = Mapping[str, QueuedJob]


def new_name() -> str:
    """A name for a job or an array of them that no other has."""
    return f"ncexp-{secrets.token_hex(6)}"


def jobs_in_queue() -> Queue:
    """This user's jobs that wait or run, as far as they bear a name of ours. Raises SlurmUnavailable."""
    # The user by number, as the system knows us: names in variables may say something else.
    listing = call("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%r|%k")
    found = {}
    for line in listing.splitlines():
        number, state, reason, comment = line.strip().split("|", maxsplit=3)
        if name := re.search(r"(?:^|\s)(ncexp-[0-9a-f]{12})$", comment.strip()):
            job = "_".join([name[1], *number.split("_")[1:]])
            found[job] = QueuedJob(number, state, "" if reason == "None" else reason)
    return found


def known_queue() -> Queue | None:
    """As `jobs_in_queue`; None where SLURM is not there or does not respond."""
    try:
        return jobs_in_queue()
    except SlurmUnavailable:
        return None


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
