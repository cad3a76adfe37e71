"""Hand a sweep's tasks to SLURM, through submitit: jobs of several tasks, arrays of jobs, and not too many at once.

A submission is noted before sbatch is called, and struck out once its jobs stand in the manifest. sbatch may report a
time-out, or this process may be killed, when SLURM has taken the jobs already. They bear the submission's name in their
comment, by which they are found in the queue and become the sweep's, now or by the next command; otherwise that would
submit them again.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import TypeAdapter

from ncexp.config.names import shown
from ncexp.launching import slurm
from ncexp.launching.job import Job
from ncexp.launching.plan import Plan
from ncexp.launching.states import LOCAL, job_of, process_of, queued_job
from ncexp.launching.sweep_directory import SweepDirectory, environment
from ncexp.record import DamagedFile, State, write_json
from ncexp.record.files import read_file

#: Options of ours; everything else in the launcher's configuration is for sbatch.
OURS = {"wait", "dry_run", "runs_per_task", "grace_s", "poll_s", "max_num_timeout", "array_parallelism",
        "submitit_folder", "additional_parameters", "setup", "name"}  # fmt: skip
#: Those that submitit knows for every kind of cluster; the others are SLURM's own.
SHARED = {"timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout"}
#: Words of a controller that refuses: it has no jobs. Else it may have taken them, and been too busy to say so.
REFUSED = re.compile(
    "invalid|permitted|denied|violates|not available|unrecognized|can ?not be satisfied", re.IGNORECASE
)
#: How long jobs that sbatch did not confirm are searched for: a controller under load lists them late.
SEARCH_S = 30.0

Report = Callable[[str], object]


def refuse_options(options: Mapping[str, Any]) -> None:
    """Raises ValueError for options of hydra/launcher=slurm that cannot be meant."""
    for name in ("runs_per_task", "array_parallelism", "tasks_per_node", "timeout_min"):
        if options[name] < 1:
            raise ValueError(f"hydra.launcher.{name}: expected at least 1, got {options[name]}.")
    if options["runs_per_task"] > 1 and options["tasks_per_node"] * options["nodes"] > 1:
        raise ValueError(
            f"hydra.launcher.runs_per_task: expected 1 where one run has {options['tasks_per_node']} tasks on each of "
            f"{options['nodes']} nodes, got {options['runs_per_task']}. Share a job, or spread a run: not both."
        )
    if options["signal_delay_s"] >= 60 * options["timeout_min"]:
        raise ValueError(
            f"hydra.launcher.signal_delay_s: expected less than the limit of {options['timeout_min']} min, got "
            f"{options['signal_delay_s']}. A job would be warned as soon as it starts."
        )


@dataclass(frozen=True)
class Chunk:
    """One array: jobs (the numbers of the tasks of each), how many of them may run at once, and what it waits for.

    after: the index of the chunk whose end it waits for; None where it need not wait.
    """

    jobs: list[list[int]]
    at_once: int
    after: int | None


def cut(numbers: Sequence[int], runs_per_task: int, max_array_size: int, at_once: int) -> list[Chunk]:
    """Cut tasks into jobs, jobs into arrays that SLURM takes, and divide `at_once` among the arrays.

    Each array has a share of its own, and the shares add up to at_once; where there are more arrays than that, the
    later ones wait each for the end of an earlier one. So never more than at_once jobs run.
    """
    jobs = [list(numbers[first : first + runs_per_task]) for first in range(0, len(numbers), runs_per_task)]
    count = -(-len(jobs) // max_array_size)
    lanes = min(count, at_once)
    chunks, first = [], 0
    for index in range(count):
        size = len(jobs) // count + (index < len(jobs) % count)
        share = at_once // lanes + (index % lanes < at_once % lanes)
        chunks.append(Chunk(jobs[first : first + size], share, index - lanes if index >= lanes else None))
        first += size
    return chunks


def describe_estimate(plan: Plan, chunks: Sequence[Chunk], limit_min: int) -> str:
    """How the tasks are divided; the longest it can take, and what it should by those that are done."""
    if not chunks:
        return "nothing to submit"
    waves: list[int] = []  # how many jobs follow one another until each chunk, and those it waits for, are through
    for chunk in chunks:
        waves.append(-(-len(chunk.jobs) // chunk.at_once) + (0 if chunk.after is None else waves[chunk.after]))
    jobs = sum(len(chunk.jobs) for chunk in chunks)
    at_once = min(jobs, sum(chunk.at_once for chunk in chunks if chunk.after is None))
    runs, largest = len(chunks[0].jobs[0]), len(chunks[0].jobs)
    text = f"{jobs} jobs of at most {runs} runs, in {len(chunks)} arrays of at most {largest}, {at_once} at once\n"
    text += f"at most {max(waves) * limit_min / 60:.1f} h once they start, if each takes its limit of {limit_min} min"
    done = [entry.task.status() or {} for entry in plan.entries if plan.states[entry.num] is State.COMPLETED]
    # Of one that was interrupted with the pause; a measuring has a status only at its end.
    seconds = [datetime.fromisoformat(one["updated"]) - datetime.fromisoformat(one["started"]) for one in done]
    if hours := [duration.total_seconds() / 3600 for duration in seconds if duration]:
        text += f"\nabout {max(waves) * mean(hours):.1f} h, by the {len(hours)} runs that are completed"
    return text


@dataclass(frozen=True)
class Submission:
    """name: the sweep's hash, a colon, a random word; jobs: the numbers of each job's tasks; the rest as in the
    launcher's options.
    """

    name: str
    jobs: list[list[int]]
    timeout_min: int
    max_num_timeout: int

    @classmethod
    def read(cls, path: Path) -> Submission:
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

    def path(self, sweep: SweepDirectory) -> Path:
        """Where it is noted while nobody knows whether SLURM has its jobs."""
        return sweep.submissions / f"{self.name.rpartition(':')[2]}.json"

    def search(self, seconds: float) -> list[str]:
        """Its jobs as soon as the queue has them; none if it has not in so many seconds. Raises SlurmUnavailable."""
        until = time.monotonic() + seconds
        while not (jobs := self.jobs_among(slurm.jobs_in_queue())) and time.monotonic() < until:
            time.sleep(1)
        return jobs

    def jobs_among(self, queue: slurm.Queue) -> list[str]:
        """All its jobs, also those that have ended, if the queue has one of them; otherwise none."""
        found = {job.partition("_")[0] for job, facts in queue.items() if facts.submission == self.name}
        if not found:
            return []
        (first,) = found
        return [first] if len(self.jobs) == 1 else [f"{first}_{index}" for index in range(len(self.jobs))]

    def adopt(self, sweep: SweepDirectory, jobs: Sequence[str]) -> None:
        """Its jobs are known: note them where every command looks, and strike it out.

        Each gets what it waits for, where submitit was not there to leave it.
        """
        from submitit.core.utils import DelayedSubmission, JobPaths, temporary_save_path

        for job, nums in zip(jobs, self.jobs, strict=True):
            path = JobPaths(sweep.jobs, job).submitted_pickle
            if not path.exists():
                work = DelayedSubmission(Job(self.timeout_min), str(sweep.path), nums)
                work.set_timeout(self.timeout_min, self.max_num_timeout)
                with temporary_save_path(path) as unfinished:
                    work.dump(unfinished)
        owners = {num: job for job, nums in zip(jobs, self.jobs, strict=True) for num in nums}
        sweep.record_jobs(owners, self.name)
        self.path(sweep).unlink()


def adopt_noted(sweep: SweepDirectory, queue: slurm.Queue, report: Report) -> list[str]:
    """Of each submission that an earlier command noted and did not confirm: adopt its jobs, or strike it out.

    Returns what is wrong with those notes that cannot be read: whether the queue has their jobs is not known.
    """
    faults = []
    for path in sorted(sweep.submissions.glob("*.json")):
        try:
            noted = Submission.read(path)
        except DamagedFile as error:
            faults.append(str(error))
            continue
        if jobs := noted.jobs_among(queue):
            noted.adopt(sweep, jobs)
            report(f"{len(jobs)} jobs of an earlier command were found in the queue")
        else:
            path.unlink()
    return faults


def submit(
    sweep: SweepDirectory, chunks: Sequence[Chunk], code: Path, options: Mapping[str, Any], report: Report
) -> int:
    """Submit every chunk and note its jobs at once, so that none is ever unknown; returns the number of jobs.

    report: gets a line where sbatch failed and SLURM has the jobs all the same. Raises SlurmUnavailable with what
    sbatch complained of; what had been submitted before goes on.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(
            folder=sweep.jobs, cluster="slurm", slurm_max_num_timeout=options["max_num_timeout"]
        )
    except RuntimeError as error:
        raise slurm.SlurmUnavailable(f"{error}. Log in to the cluster, or use hydra/launcher=local.") from None
    firsts: list[str] = []
    count = 0
    for chunk in chunks:
        after = None if chunk.after is None else firsts[chunk.after]
        name = f"{sweep.digest}:{secrets.token_hex(6)}"
        noted = Submission(name, chunk.jobs, options["timeout_min"], options["max_num_timeout"])
        write_json(noted.path(sweep), asdict(noted))
        executor.update_parameters(**_parameters(sweep, name, chunk, after, code, options))
        before = f"{count} jobs were submitted before and go on; the same command"
        jobs = _sbatch(executor, sweep, noted, before, report)
        noted.adopt(sweep, jobs)
        firsts.append(jobs[0].partition("_")[0])
        count += len(jobs)
    return count


def _sbatch(executor: Any, sweep: SweepDirectory, noted: Submission, before: str, report: Report) -> list[str]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        with slurm.outside_of_any_job():
            work = Job(noted.timeout_min)
            return [job.job_id for job in executor.map_array(work, [str(sweep.path)] * len(noted.jobs), noted.jobs)]
    except (FailedJobError, FailedSubmissionError) as error:
        said = f"sbatch: {error}\n{before}"
    try:
        jobs = noted.search(0.0 if REFUSED.search(said) else SEARCH_S)
    except slurm.SlurmUnavailable as error:
        raise slurm.SlurmUnavailable(
            f"{said} looks for the others before it submits them: whether they were submitted is not known ({error})"
        ) from None
    if not jobs:
        raise slurm.SlurmUnavailable(f"{said} submits the rest.")
    report(f"sbatch failed, but SLURM has the {len(jobs)} jobs; they go on")
    return jobs


def _parameters(
    sweep: SweepDirectory, name: str, chunk: Chunk, after: str | None, code: Path, options: Mapping[str, Any]
) -> dict[str, Any]:
    """submitit's words for the launcher's configuration; null means that the cluster's own default holds.

    name: the submission's; the last word of the jobs' comment.
    """
    given = {name: value for name, value in options.items() if name not in OURS and value is not None}
    parameters = {name if name in SHARED else f"slurm_{name}": value for name, value in given.items()}
    variables = [f"export {name}={shlex.quote(value)}" for name, value in environment(code).items()]
    parameters["name"] = sweep.path.name
    parameters["slurm_array_parallelism"] = chunk.at_once
    parameters["slurm_setup"] = [*variables, *(options["setup"] or [])]
    additional = options["additional_parameters"]
    comment = " ".join([*str(additional.get("comment") or "").split(), name])
    parameters["slurm_additional_parameters"] = {"requeue": True, **additional, "comment": comment}
    if after:
        parameters["slurm_dependency"] = f"afterany:{after}"
    step = []
    if options.get("cpus_per_task"):
        # Since 22.05 srun no longer inherits it: the step would have one CPU of those that the job asked for.
        step.append(f"--cpus-per-task={options['cpus_per_task']}")
    if options["tasks_per_node"] * options["nodes"] > 1:
        step.append("--kill-on-bad-exit=1")  # else the others wait half an hour for a task that has failed
    if step:
        parameters["slurm_srun_args"] = step
    return parameters


def cancel_sweep(sweep: SweepDirectory, report: Report) -> tuple[int, list[str]]:
    """End the jobs that this sweep submitted, and a local sweep's process.

    Returns how many there were, and what is wrong with notes of submissions that cannot be read.

    SLURM counts its jobs anew after a restart, and a machine its processes: only what bears the sweep's mark is ended.
    report: gets a line for each job that bears its number and not its mark. Raises SlurmUnavailable.
    """
    with sweep.locked():
        jobs = {entry.job or LOCAL for entry in sweep.entries()}
        asked = any(sweep.submissions.glob("*.json")) or not all(job.startswith(LOCAL) for job in jobs)
        queue = slurm.jobs_in_queue() if asked else {}
        faults = adopt_noted(sweep, queue, report)
    tasks = [(entry.job, entry.task) for entry in sweep.entries() if entry.job]
    jobs = {job for job, _ in tasks}  # a job may have several tasks
    processes = [process for job in jobs if (process := process_of(job)) is not None]
    for process in processes:
        os.kill(process, signal.SIGTERM)
    ours = {job for job, task in tasks if job == job_of(task) and queued_job(task, queue)}
    slurm.cancel(sorted(ours))
    for job in sorted(jobs & queue.keys() - ours):
        report(f"{job}: left alone: the queue's job of that number is not one that this sweep submitted")
    return len(ours) + len(processes), faults
