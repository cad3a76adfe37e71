"""SLURM's own commands, the few that are needed: squeue, scontrol, scancel. Never sacct: many clusters have none."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

#: Longest wait for a controller that does not answer.
PATIENCE_S = 30.0


class SlurmUnavailable(RuntimeError):
    """A command of SLURM is not installed, failed, or did not answer."""


def call(*command: str) -> str:
    """What a command of SLURM prints. Raises SlurmUnavailable with what it complained of."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        raise SlurmUnavailable(
            f"{command[0]}: expected SLURM's commands on this machine, got none. Log in to the cluster, or use "
            "hydra/launcher=local."
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmUnavailable(f"{command[0]}: expected an answer within {PATIENCE_S:.0f} s, got none.") from None
    if done.returncode != 0:
        raise SlurmUnavailable(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def jobs_in_queue() -> dict[str, str]:
    """Job (``12`` or ``12_3`` of an array) → state, for this user's jobs that wait or run. Raises SlurmUnavailable."""
    listing = call("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T")
    return dict(line.strip().split("|") for line in listing.splitlines() if line.strip())


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
