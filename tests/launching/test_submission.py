"""How a sweep is cut into jobs and arrays: nothing lost, no array too large, never more jobs at once than asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncexp.config.components import read_part
from ncexp.config.installed import read_choice
from ncexp.launching import slurm, submission
from ncexp.launching.slurm import QueuedJob
from ncexp.launching.submission import Chunk, SlurmOptions, batch_script, cut, submit
from ncexp.launching.sweep_directory import SweepDirectory

sizes = st.integers(1, 9)


def most_at_once(chunks: list[Chunk]) -> int:
    """The most jobs that can run together: of each lane (a chunk and those that wait for it) only one chunk runs."""
    lanes: dict[int, int] = {}
    for index, chunk in enumerate(chunks):
        first = index
        while (before := chunks[first].after) is not None:
            first = before
        lanes[first] = max(lanes.get(first, 0), min(chunk.at_once, len(chunk.jobs)))
    return sum(lanes.values())


@given(st.integers(0, 60), sizes, sizes, sizes)
def test_cut_keeps_every_run_once_and_in_order(runs: int, per_job: int, largest: int, at_once: int) -> None:
    chunks = cut(range(runs), per_job, largest, at_once)
    assert [num for chunk in chunks for job in chunk.jobs for num in job] == list(range(runs))
    assert all(0 < len(job) <= per_job for chunk in chunks for job in chunk.jobs)


@given(st.integers(1, 60), sizes, sizes, sizes)
def test_cut_holds_both_limits(runs: int, per_job: int, largest: int, at_once: int) -> None:
    chunks = cut(range(runs), per_job, largest, at_once)
    assert all(len(chunk.jobs) <= largest and chunk.at_once >= 1 for chunk in chunks)
    assert all(chunk.after is None or chunk.after < index for index, chunk in enumerate(chunks))
    assert most_at_once(chunks) <= at_once


def test_cut_of_750_runs_is_one_array_where_slurm_takes_a_thousand() -> None:
    assert [len(chunk.jobs) for chunk in cut(range(750), 1, 1001, 64)] == [750]
    assert [(len(chunk.jobs), chunk.at_once) for chunk in cut(range(1500), 1, 1001, 64)] == [(750, 32), (750, 32)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"runs_per_task": 0}, "runs_per_task: expected a value greater than or equal to 1, got 0"),
        ({"runs_per_task": 2, "tasks_per_node": 2}, "runs_per_task: expected 1 where one run has 2 tasks"),
        ({"timeout_min": 2}, "signal_delay_s: expected less than the limit of 2 min, got 120"),
        ({"partitionn": "gpu"}, "hydra.launcher.partitionn: no such key.* Did you mean partition?"),
        ({"timeout_min": "long"}, "hydra.launcher.timeout_min: expected an integer, got 'long'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**changed)


def options(**changed: Any) -> SlurmOptions:
    """Those of conf/, changed."""
    given = {**read_choice("hydra/launcher", "slurm"), **changed}
    return read_part("hydra.launcher", SlurmOptions, {key: given[key] for key in given if key != "_target_"})


def test_batch_script_has_every_option_and_the_words_of_the_site(sweep: SweepDirectory) -> None:
    site: dict[str, Any] = {
        "gres": "gpu:a100:1", "constraint": "a100", "account": "us", "qos": "short", "mem_gb": 32, "cpus_per_task": 8,
        "gpus_per_node": 4, "mem_per_cpu": "4G", "mem_per_gpu": "40G",
        "tasks_per_node": 4, "setup": ["module load cuda"], "comment": "theirs", "timeout_min": 60,
        "additional_parameters": {"mail-type": "FAIL", "hold": True},
    }  # fmt: skip
    lines = batch_script(
        sweep, "ncexp-0a", Chunk([[0], [1]], 2, None), "17", Path("code"), options(**site)
    ).splitlines()
    assert {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")} == {
        "job-name=quick_1", "array=0-1%2", "dependency=afterany:17", "signal=USR2@120", "open-mode=append", "requeue",
        f"output={sweep.jobs}/ncexp-0a_%a_0_log.out", "time=60", "nodes=1", "ntasks-per-node=4", "cpus-per-task=8",
        "mem=32GB", "mem-per-cpu=4G", "mem-per-gpu=40G",
        "gpus-per-node=4", "gres=gpu:a100:1", "account=us", "qos=short", "constraint=a100",
        "mail-type=FAIL", "hold", "comment='theirs ncexp-0a'",
    }  # fmt: skip
    *_, loaded, work = lines
    assert loaded == "module load cuda"
    step = f"srun --unbuffered --output={sweep.jobs}/ncexp-0a_%a_%t_log.out --cpus-per-task=8 --kill-on-bad-exit=1 "
    assert work == f"{step}{sys.executable} -u -m ncexp run-job {sweep.path} ncexp-0a 60 120 10"


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("sbatch: error: invalid partition specified: nowhere", True),
        ("Batch job submission failed: Invalid account or account/partition combination specified", True),
        ("Batch job submission failed: Requested node configuration is not available", True),
        ("Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)", True),
        ("Batch job submission failed: User's group not permitted to use this partition", True),
        ("Batch job submission failed: Memory specification can not be satisfied", True),
        ("Batch job submission failed: Socket timed out on send/recv operation", False),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", False),
        ("Batch job submission failed: Zero Bytes were transmitted or received", False),
        ("Batch job submission failed: Unexpected message received", False),
    ],
)
def test_words_of_sbatch_tell_a_refusal_from_an_unknown_end(said: str, refused: bool) -> None:
    """After a refusal the command waited half a minute for jobs that nobody had taken."""
    assert (submission.REFUSED.search(said) is not None) is refused


def test_queue_is_read_with_reasons_by_the_names_in_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other jobs, whatever their comments and their numbers are, nothing is known."""
    ours = "ncexp-0123456789ab"
    listing = f"12_3|PENDING|Nodes required, DOWN|theirs | and {ours}\n13|RUNNING|None|{ours}\n"
    listing += f"14|RUNNING|None|(null)\n15|RUNNING|None|\n16_1|RUNNING|None|not_{ours}\n17|RUNNING|None|{ours} too\n"
    asked: list[str] = []
    monkeypatch.setattr(slurm, "call", lambda *command: asked.extend(command) or listing)
    assert slurm.jobs_in_queue() == {
        f"{ours}_3": QueuedJob("12_3", "PENDING", "Nodes required, DOWN"),
        ours: QueuedJob("13", "RUNNING", ""),
    }
    assert f"--user={os.getuid()}" in asked


@pytest.mark.parametrize("said", ["sbatch: Socket timed out", "sbatch: invalid partition"])
def test_jobs_stay_noted_unless_sbatch_refuses(
    sweep: SweepDirectory, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sbatch nor squeue responds: the next command has to look."""

    def fail(*_: str) -> str:
        raise slurm.SlurmUnavailable(said)

    before = [entry.job for entry in sweep.entries()]
    monkeypatch.setattr(slurm, "call", fail)
    with pytest.raises(slurm.SlurmUnavailable, match="0 jobs were submitted before and go on; the same command"):
        submit(sweep, [Chunk([[0, 1], [2]], 2, None)], Path("code"), options(), print)
    jobs = [entry.job for entry in sweep.entries()]
    assert [entry.task.job() for entry in sweep.entries()] == jobs
    name = str(jobs[0]).removesuffix("_0")
    assert jobs == (before if "invalid" in said else [f"{name}_0", f"{name}_0", f"{name}_1"])
