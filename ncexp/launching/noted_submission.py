"""A submission is noted before sbatch is called, and struck out once its jobs stand in the manifest.

sbatch may report a time-out, or this process may be killed, when SLURM has taken the jobs already. They bear the
submission's name in their comment, by which they are found in the queue and become the sweep's, now or by the next
command; otherwise that would submit them again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ncexp.config.names import shown
from ncexp.launching.job import Job
from ncexp.launching.slurm import Queue, jobs_in_queue
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import DamagedFile, write_json
from ncexp.record.files import read_file


@dataclass(frozen=True)
class NotedSubmission:
    """name: the sweep's hash, a colon, a random word; jobs: the numbers of each job's tasks; the rest as in the
    launcher's options.
    """

    name: str
    jobs: list[list[int]]
    timeout_min: int
    max_num_timeout: int

    @classmethod
    def of(cls, sweep: SweepDirectory, jobs: list[list[int]], options: Mapping[str, Any]) -> NotedSubmission:
        """A new one, on the disk before this returns."""
        name = f"{sweep.digest}:{secrets.token_hex(6)}"
        noted = cls(name, jobs, options["timeout_min"], options["max_num_timeout"])
        write_json(noted._path(sweep), asdict(noted))
        return noted

    @classmethod
    def read(cls, path: Path) -> NotedSubmission:
        """What an earlier command left. Raises DamagedFile for what none wrote, and could name any file as its own."""
        try:
            noted = TypeAdapter(cls).validate_json(read_file(path), strict=True)
            if noted.name.rpartition(":")[2] == path.stem:
                return noted
            cause = f"the name {shown(noted.name)}"
        except (OSError, ValueError) as error:
            cause = " ".join(str(error).split())
        raise DamagedFile(
            f"{path}: expected a submission of its name, got a damaged file ({cause}). Set it aside; `squeue` shows "
            "whether its jobs are there."
        )

    def function(self) -> Job:
        """What each of the jobs calls."""
        return Job(self.timeout_min)

    def confirm(self, sweep: SweepDirectory, jobs: Sequence[str]) -> None:
        """Its jobs are known: note them where every command looks, and strike it out."""
        owners = {num: job for job, nums in zip(jobs, self.jobs, strict=True) for num in nums}
        sweep.record_jobs(owners, self.name)
        self.strike_out(sweep)

    def strike_out(self, sweep: SweepDirectory) -> None:
        """Nothing of it is unknown any more."""
        self._path(sweep).unlink()

    def search(self, seconds: float) -> list[str]:
        """Its jobs as soon as the queue has them; none if it has not in so many seconds. Raises SlurmUnavailable."""
        until = time.monotonic() + seconds
        while not (jobs := self.jobs_among(jobs_in_queue())) and time.monotonic() < until:
            time.sleep(1)
        return jobs

    def jobs_among(self, queue: Queue) -> list[str]:
        """Its jobs, those that have ended already included, if the queue has one of them; else none."""
        found = {job.partition("_")[0] for job, facts in queue.items() if facts.submission == self.name}
        if not found:
            return []
        (first,) = found
        return [first] if len(self.jobs) == 1 else [f"{first}_{index}" for index in range(len(self.jobs))]

    def adopt(self, sweep: SweepDirectory, jobs: Sequence[str]) -> None:
        """Make them the sweep's: give each what submitit would have left for it, which it waits for, and confirm."""
        from submitit.core.utils import DelayedSubmission, JobPaths, temporary_save_path

        for job, nums in zip(jobs, self.jobs, strict=True):
            work = DelayedSubmission(self.function(), str(sweep.path), nums)
            work.set_timeout(self.timeout_min, self.max_num_timeout)
            path = JobPaths(sweep.jobs, job).submitted_pickle
            if not path.exists():
                with temporary_save_path(path) as unfinished:
                    work.dump(unfinished)
        self.confirm(sweep, jobs)

    def _path(self, sweep: SweepDirectory) -> Path:
        return sweep.submissions / f"{self.name.rpartition(':')[2]}.json"


def adopt_noted(sweep: SweepDirectory, queue: Queue, report: Callable[[str], object]) -> list[str]:
    """Of each submission that an earlier command noted and did not confirm: adopt its jobs, or strike it out.

    Returns what is wrong with those notes that cannot be read: whether the queue has their jobs is not known.
    """
    faults = []
    for path in sorted(sweep.submissions.glob("*.json")):
        try:
            noted = NotedSubmission.read(path)
        except DamagedFile as error:
            faults.append(str(error))
            continue
        if jobs := noted.jobs_among(queue):
            noted.adopt(sweep, jobs)
            report(f"{len(jobs)} jobs of an earlier command were found in the queue")
        else:
            noted.strike_out(sweep)
    return faults
