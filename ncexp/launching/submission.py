"""Hand a sweep's tasks to SLURM, through submitit: jobs of several tasks, arrays of jobs, and not too many at once."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncexp.launching.code_state import environment
from ncexp.launching.noted_submission import NotedSubmission
from ncexp.launching.slurm import SlurmUnavailable, outside_of_any_job
from ncexp.launching.sweep_directory import SweepDirectory

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
    sizes = [len(jobs) // count + (index < len(jobs) % count) for index in range(count)] if count else []
    lanes = min(count, at_once)
    chunks, first = [], 0
    for index, size in enumerate(sizes):
        lane = index % lanes
        share = at_once // lanes + (lane < at_once % lanes)
        chunks.append(Chunk(jobs[first : first + size], share, index - lanes if index >= lanes else None))
        first += size
    return chunks


def submit(
    sweep: SweepDirectory,
    chunks: Sequence[Chunk],
    code: Path,
    options: Mapping[str, Any],
    report: Callable[[str], object],
) -> list[str]:
    """Submit every chunk and note its jobs at once, so that none is ever unknown; returns the jobs.

    report: gets a line where sbatch failed and SLURM has the jobs all the same. Raises SlurmUnavailable with what
    sbatch complained of; what had been submitted before goes on.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(
            folder=sweep.jobs, cluster="slurm", slurm_max_num_timeout=options["max_num_timeout"]
        )
    except RuntimeError as error:
        raise SlurmUnavailable(f"{error}. Log in to the cluster, or use hydra/launcher=local.") from None
    firsts: list[str] = []
    jobs: list[str] = []
    for chunk in chunks:
        after = None if chunk.after is None else firsts[chunk.after]
        noted = NotedSubmission.of(sweep, chunk.jobs, options)
        executor.update_parameters(**_parameters(sweep, noted.name, chunk, after, code, options))
        before = f"{len(jobs)} jobs were submitted before and go on"
        submitted = _sbatch(executor, sweep, noted, before, report)
        firsts.append(submitted[0].partition("_")[0])
        jobs += submitted
    return jobs


def _sbatch(
    executor: Any, sweep: SweepDirectory, noted: NotedSubmission, before: str, report: Callable[[str], object]
) -> list[str]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        with outside_of_any_job():
            submitted = executor.map_array(noted.function(), [str(sweep.path)] * len(noted.jobs), noted.jobs)
    except (FailedJobError, FailedSubmissionError) as error:
        jobs = _search(noted, str(error), f"sbatch: {error}\n{before}; the same command")
        if not jobs:
            raise SlurmUnavailable(f"sbatch: {error}\n{before}; the same command submits the rest.") from None
        noted.adopt(sweep, jobs)
        report(f"sbatch failed, but SLURM has the {len(jobs)} jobs; they go on")
        return jobs
    jobs = [job.job_id for job in submitted]
    noted.confirm(sweep, jobs)
    return jobs


def _search(noted: NotedSubmission, said: str, what: str) -> list[str]:
    try:
        return noted.search(0.0 if REFUSED.search(said) else SEARCH_S)
    except SlurmUnavailable as error:
        raise SlurmUnavailable(
            f"{what} looks for the others before it submits them: whether they were submitted is not known ({error})"
        ) from None


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
