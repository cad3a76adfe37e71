"""Hand a sweep's tasks to SLURM: jobs of several tasks, arrays of jobs, and not too many at once.

The name of a job is noted with its tasks before sbatch is called, and stands in the job's comment. So nothing has to be
noted afterwards: where sbatch reports a time-out, or this process is killed, when SLURM has taken the jobs already, the
next command finds them in the queue by their names, and does not submit them again.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

from pydantic import Field

from ncexp.config.components import Count, NonNegative
from ncexp.launching import slurm
from ncexp.launching.plan import Plan
from ncexp.launching.states import LOCAL, process_of
from ncexp.launching.sweep_directory import SweepDirectory, environment
from ncexp.record import State, write_text

#: Options of sbatch whose names are others there; in all others "-" stands for "_".
_SBATCH = {"timeout_min": "time", "mem_gb": "mem", "tasks_per_node": "ntasks-per-node"}
#: Words of a controller that refuses: it has no jobs. Else it may have taken them, and been too busy to say so.
REFUSED = re.compile(
    "invalid|permitted|denied|violates|not available|unrecognized|can ?not be satisfied", re.IGNORECASE
)
#: How long jobs that sbatch did not confirm are searched for: a controller under load lists them late.
SEARCH_S = 30.0

Report = Callable[[str], object]
Word = str | int | None


@dataclass(frozen=True, kw_only=True)
class OfSbatch:
    """What sbatch is told, under its own names but for `_SBATCH`; None: the cluster's own default."""

    timeout_min: Count
    nodes: Count
    tasks_per_node: Count
    cpus_per_task: Count | None
    mem_gb: Count | None
    mem_per_cpu: Word
    mem_per_gpu: Word
    gpus_per_node: Word
    gpus_per_task: Word
    cpus_per_gpu: Count | None
    gres: Word
    partition: Word
    account: Word
    qos: Word
    constraint: Word
    nodelist: Word
    exclude: Word


@dataclass(frozen=True, kw_only=True)
class SlurmOptions(OfSbatch):
    """What hydra/launcher=slurm takes; conf/hydra/launcher/slurm.yaml says what each means."""

    comment: Word
    additional_parameters: dict[str, Any]
    setup: list[str] | None
    stderr_to_stdout: bool
    runs_per_task: Count
    array_parallelism: Count
    max_num_timeout: Annotated[int, Field(ge=0)]
    signal_delay_s: Annotated[int, Field(ge=0)]
    wait: bool
    dry_run: bool
    poll_s: NonNegative
    grace_s: NonNegative

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be meant together."""
        if self.runs_per_task > 1 and self.tasks_per_node * self.nodes > 1:
            raise ValueError(
                f"hydra.launcher.runs_per_task: expected 1 where one run has {self.tasks_per_node} tasks on each of "
                f"{self.nodes} nodes, got {self.runs_per_task}. Share a job, or spread a run: not both."
            )
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise ValueError(
                f"hydra.launcher.signal_delay_s: expected less than the limit of {self.timeout_min} min, got "
                f"{self.signal_delay_s}. A job would be warned as soon as it starts."
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


def submit(sweep: SweepDirectory, chunks: Sequence[Chunk], code: Path, options: SlurmOptions, report: Report) -> None:
    """Submit every chunk. report: gets a line for each, with SLURM's number for it.

    Raises SlurmUnavailable with what sbatch complained of; what had been submitted before goes on.
    """
    sweep.jobs.mkdir(exist_ok=True)
    firsts: list[str] = []
    count = 0
    for chunk in chunks:
        name, earlier = slurm.new_name(), {entry.num: entry.job for entry in sweep.entries()}
        owners = {num: f"{name}_{index}" for index, nums in enumerate(chunk.jobs) for num in nums}
        script = sweep.jobs / f"{name}.sh"
        after = None if chunk.after is None else firsts[chunk.after]
        write_text(script, batch_script(sweep, name, chunk, after, code, options))
        sweep.record_jobs(owners)
        try:
            firsts.append(slurm.call("sbatch", "--parsable", str(script)).strip().partition(";")[0])
        except slurm.SlurmUnavailable as error:
            said = f"{error}\n{count} jobs were submitted before and go on; the same command"
            if REFUSED.search(str(error)):
                sweep.record_jobs({num: earlier[num] for num in owners})
                raise slurm.SlurmUnavailable(f"{said} submits the rest.") from None
            firsts.append(_search(name, said))
            report(f"sbatch failed, but SLURM has the {len(chunk.jobs)} jobs; they go on")
        count += len(chunk.jobs)
        report(f"submitted {len(chunk.jobs)} jobs: {firsts[-1]}")


def _search(name: str, said: str) -> str:
    """SLURM's number for a submission that sbatch did not confirm. Raises SlurmUnavailable where it is not found."""
    until = time.monotonic() + SEARCH_S
    try:
        while time.monotonic() < until:
            for job, found in slurm.jobs_in_queue().items():
                if job.startswith(f"{name}_"):
                    return found.number.partition("_")[0]
            time.sleep(1)
    except slurm.SlurmUnavailable as error:
        raise slurm.SlurmUnavailable(
            f"{said} looks for the others before it submits them: whether they were submitted is not known ({error})"
        ) from None
    raise slurm.SlurmUnavailable(f"{said} submits the rest.")


def batch_script(
    sweep: SweepDirectory, name: str, chunk: Chunk, after: str | None, code: Path, options: SlurmOptions
) -> str:
    """What sbatch is given: its options, and what each job of the array `name` carries out.

    after: the number of the array whose end it waits for; code: the copy of the package's source.
    """
    log = str(sweep.jobs / f"{name}_%a_%t_log")
    comment = [options.comment or "", options.additional_parameters.get("comment") or "", name]
    flags = {
        "job-name": sweep.path.name,
        "array": f"0-{len(chunk.jobs) - 1}%{chunk.at_once}",
        "dependency": f"afterany:{after}" if after else None,
        "signal": f"USR2@{options.signal_delay_s}",
        "output": f"{log}.out".replace("%t", "0"),
        "error": None if options.stderr_to_stdout else f"{log}.err".replace("%t", "0"),
        "open-mode": "append",
        "requeue": True,
        **{_SBATCH.get(one.name, one.name.replace("_", "-")): getattr(options, one.name) for one in fields(OfSbatch)},
        **options.additional_parameters,
        "comment": " ".join(" ".join(map(str, comment)).split()),
    }
    if options.mem_gb:
        flags["mem"] = f"{options.mem_gb}GB"
    step = ["srun", "--unbuffered", f"--output={log}.out"]
    if not options.stderr_to_stdout:
        step.append(f"--error={log}.err")
    if options.cpus_per_task:  # since 22.05 srun does not inherit it: the step would have one CPU
        step.append(f"--cpus-per-task={options.cpus_per_task}")
    if options.tasks_per_node * options.nodes > 1:
        step.append("--kill-on-bad-exit=1")  # else the others wait half an hour for a task that has failed
    work = [sys.executable, "-u", "-m", "ncexp", "run-job", str(sweep.path), name]
    limits = (options.timeout_min, options.signal_delay_s, options.max_num_timeout)
    lines = ["#!/bin/bash"]
    for flag, value in flags.items():
        if value not in (None, False):
            lines.append(f"#SBATCH --{flag}" if value is True else f"#SBATCH --{flag}={shlex.quote(str(value))}")
    lines += [f"export {variable}={shlex.quote(value)}" for variable, value in environment(code).items()]
    return "\n".join([*lines, *(options.setup or []), shlex.join([*step, *work, *map(str, limits)]), ""])


def cancel_sweep(sweep: SweepDirectory) -> int:
    """End the jobs that this sweep submitted, and a local sweep's process; returns how many there were.

    Raises SlurmUnavailable, and DamagedFile for a manifest that cannot be read.
    """
    with sweep.locked():
        jobs = {entry.job for entry in sweep.entries() if entry.job}  # a job may have several tasks
    processes = [process for job in jobs if (process := process_of(job)) is not None]
    for process in processes:
        os.kill(process, signal.SIGTERM)
    queue = {} if all(job.startswith(LOCAL) for job in jobs) else slurm.jobs_in_queue()
    found = [queue[job].number for job in jobs & queue.keys()]
    slurm.cancel(found)
    return len(found) + len(processes)
