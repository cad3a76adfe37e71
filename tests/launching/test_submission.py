"""How a sweep is cut into jobs and arrays: nothing lost, no array too large, never more jobs at once than asked."""

from __future__ import annotations

import os
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from submitit.core.utils import DelayedSubmission

from ncexp.launching import slurm, submission
from ncexp.launching.slurm import Queue, QueuedJob
from ncexp.launching.submission import Chunk, Submission, adopt_noted, cut, refuse_options
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import write_json

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


OPTIONS = {"runs_per_task": 1, "array_parallelism": 1, "tasks_per_node": 1, "nodes": 1, "timeout_min": 10,
           "signal_delay_s": 120}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"runs_per_task": 0}, "runs_per_task: expected at least 1, got 0"),
        ({"runs_per_task": 2, "tasks_per_node": 2}, "runs_per_task: expected 1 where one run has 2 tasks"),
        ({"timeout_min": 2}, "signal_delay_s: expected less than the limit of 2 min, got 120"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(changed: dict[str, int], message: str) -> None:
    refuse_options(OPTIONS)
    with pytest.raises(ValueError, match=message):
        refuse_options({**OPTIONS, **changed})


def noted(sweep: SweepDirectory, *jobs: list[int]) -> Submission:
    """As one is left by a command that was killed while it submitted."""
    made = Submission("1:cd", [*jobs], timeout_min=60, max_num_timeout=7)
    write_json(made.path(sweep), asdict(made))
    return made


def listed(name: str, *jobs: str) -> Queue:
    return {job: QueuedJob("RUNNING", "", name) for job in jobs}


def test_jobs_of_an_unconfirmed_submission_are_adopted(sweep: SweepDirectory) -> None:
    name = noted(sweep, [0, 1], [2]).name
    said: list[str] = []
    adopt_noted(sweep, listed(name, "12_1") | listed("quick_1:other", "13"), said.append)  # 12_0 is through
    assert [(entry.job, entry.task.job(), entry.task.submission()) for entry in sweep.entries()] == [
        ("12_0", "12_0", name),
        ("12_0", "12_0", name),
        ("12_1", "12_1", name),
    ]
    assert said == ["2 jobs of an earlier command were found in the queue"]
    for job, nums in (("12_0", [0, 1]), ("12_1", [2])):
        work = DelayedSubmission.load(sweep.jobs / f"{job}_submitted.pkl")
        assert work.args == (str(sweep.path), nums)
        assert (work._timeout_min, work._timeout_countdown) == (60, 7)
    assert not list(sweep.submissions.iterdir())


def test_submission_that_the_queue_does_not_have_is_struck_out(sweep: SweepDirectory) -> None:
    noted(sweep, [0], [1])
    adopt_noted(sweep, listed("quick_1:other", "12_0", "12_1"), print)
    assert [entry.job for entry in sweep.entries()] == ["7_0", "7_1", "7_2"]
    assert not list(sweep.submissions.iterdir())


def test_submission_stays_noted_while_nobody_knows(sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sbatch nor squeue responds: the next command has to look."""
    submitted = noted(sweep, [0])

    def fail() -> Queue:
        raise slurm.SlurmUnavailable("squeue: expected a response within 30 s, got none.")

    monkeypatch.setattr(slurm, "jobs_in_queue", fail)
    with pytest.raises(slurm.SlurmUnavailable):
        submitted.search(30.0)
    assert len(list(sweep.submissions.iterdir())) == 1


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


def test_queue_is_read_with_reasons_and_the_submissions_name(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = "12_3|PENDING|Nodes required, DOWN|theirs | and ours quick:1\n13|RUNNING|None|(null)\n14|RUNNING|None|\n"
    asked: list[str] = []
    monkeypatch.setattr(slurm, "call", lambda *command: asked.extend(command) or listing)
    assert slurm.jobs_in_queue() == {
        "12_3": QueuedJob("PENDING", "Nodes required, DOWN", "quick:1"),
        "13": QueuedJob("RUNNING", "", None),
        "14": QueuedJob("RUNNING", "", None),
    }
    assert f"--user={os.getuid()}" in asked
