"""The tables of a sweep: what they say of a run that is fresh, that waits, or that left nothing behind."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import cancel
from rich.console import Console

from ncexp.cli.status import chosen
from ncexp.launching.job import Job
from ncexp.launching.slurm import Queue, QueuedJob
from ncexp.launching.states import standing
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.table import print_table
from ncexp.record import RunDirectory, State

MEMORY, TIME = "raise hydra.launcher.mem_gb", "raise hydra.launcher.timeout_min"
DRAINED = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"


def table(sweep: SweepDirectory, console: Console, queue: Queue, every: bool = False) -> list[str]:
    entries = sweep.entries()
    print_table(console, sweep.path.name, sweep, entries, standing(entries, queue), every)
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def waiting(reason: str) -> QueuedJob:
    return QueuedJob("PENDING", reason, "quick_1:ab")


def test_epoch_is_the_last_trained_one_and_none_where_there_is_none(sweep: SweepDirectory, console: Console) -> None:
    fresh, training, _ = (RunDirectory(Path(entry.run)) for entry in sweep.entries())
    for run in (fresh, training):
        run.set_status(State.RUNNING, epoch=0)  # as a run begins
    for epoch in (1, 2, 3):
        training.training.put({"epoch": epoch, "fit/loss": 0.5})
    queue = {f"7_{num}": QueuedJob("RUNNING", "", "quick_1:ab") for num in range(2)}
    first, second, *_ = table(sweep, console, queue)
    assert first.split() == ["000", "seed=0", "running"]
    assert second.split() == ["001", "seed=1", "running", "epoch", "3"]


def test_damaged_journal_is_named_and_the_other_runs_are_shown(sweep: SweepDirectory, console: Console) -> None:
    damaged = RunDirectory(Path(sweep.entries()[0].run))
    damaged.training.path.write_text('{"epoch": 1}\nnonsense\n')
    lines = table(sweep, console, {})
    assert f"{damaged.training.path}: expected a record with its epoch in line 2" in lines[0]
    assert [line[:3] for line in lines[:3]] == ["000", "001", "002"]


def test_log_is_named_only_where_there_is_one(sweep: SweepDirectory, console: Console) -> None:
    first, second, _ = sweep.entries()
    first.task.log.write_text("what it printed\n")
    (sweep.jobs / "7_1_0_log.out").write_text("what its job printed\n")
    lines = table(sweep, console, {})
    assert [line.split()[1] for line in lines if line.startswith("     log")] == [
        str(first.task.log),
        str(sweep.jobs / "7_1_0_log.out"),
    ]
    assert [line for line in lines if "left without a result" in line][2].startswith("002")
    assert second.task.log.exists() is False


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("slurmstepd: error: Job 7 exceeded memory limit (1237463040 > 1073741824), being killed", MEMORY),
        ("slurmstepd-node7: error: StepId=7.0 exceeded memory limit (1318936576 > 1073741824), being killed", MEMORY),
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.",
            MEMORY,
        ),
        ("srun: error: node7: task 0: Out Of Memory", MEMORY),
        ("slurmstepd: error: *** JOB 7 ON node7 CANCELLED AT 2026-11-29T12:00:00 DUE TO TIME LIMIT ***", TIME),
        ("a bug, out of memory", "left without a result"),
    ],
)
def test_why_a_job_was_ended_is_said_in_words_of_slurm(
    sweep: SweepDirectory, console: Console, said: str, why: str
) -> None:
    """The table had every other cause, and pointed to a log in which nothing stood."""
    first, *_ = sweep.entries()
    first.task.log.touch()  # by the job, which was ended when it began the run
    log = sweep.jobs / "7_0_0_log.out"
    log.write_text(f"job 7_0 renamed\n{said}\n")
    line, shown, *_ = table(sweep, console, {})
    assert line.startswith("000  seed=0  lost")
    assert why in line
    assert shown.split() == ["log", str(log)]


def test_jobs_that_slurm_put_back_when_their_runs_were_through_are_counted(sweep: SweepDirectory) -> None:
    entries = sweep.entries()
    entries[0].task.set_status(State.COMPLETED)
    entries[1].task.set_status(State.DIVERGED)
    queue = {"7_0": waiting("BeginTime"), "7_1": QueuedJob("RUNNING", "", "quick_1:ab"), "7_2": waiting("Priority")}
    assert standing(entries, queue).put_back == {"7_0"}
    assert standing([replace(entry, job="7_0") for entry in entries], queue).put_back == set()
    assert standing(entries, None).put_back == set()


def test_cancel_without_a_controller_says_that_the_jobs_go_on(
    sweep: SweepDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    squeue = tmp_path / "programs" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    assert cancel([str(sweep.path)]) == 1
    said = (
        "squeue: expected SLURM to do it, got exit code 1 (slurm_load_jobs error: Unable to contact slurm controller)"
    )
    end = "Try again, or see sinfo. The sweep's jobs go on; cancel again once SLURM responds."
    assert capfd.readouterr() == ("", f"ncexp: {said}. {end}\n")


def test_job_put_back_when_its_runs_were_through_does_nothing(
    sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It imported torch and began a worker for each, 105 s, to find that out."""
    worked: list[int] = []

    def work(_: SweepDirectory, entries: list[Entry], *others: object) -> dict[int, State]:
        worked.extend(entry.num for entry in entries)
        return {entry.num: State.COMPLETED for entry in entries}

    monkeypatch.setattr("ncexp.launching.job.work", work)
    monkeypatch.setattr("ncexp.launching.job.followed", lambda *_: nullcontext())
    monkeypatch.setattr("ncexp.launching.job.Job._introduce", lambda *_: ("7_0", 0))
    environment = SimpleNamespace(job_id="7_0", num_tasks=1)
    monkeypatch.setattr("submitit.JobEnvironment", lambda: environment)
    first, second, third = (entry.task for entry in sweep.entries())
    monkeypatch.setenv("NCEXP_JOB", "7_0")
    first.set_status(State.COMPLETED)
    second.set_status(State.DIVERGED)
    monkeypatch.setenv("NCEXP_JOB", "6_0")
    third.set_status(State.COMPLETED)  # by another job, of a sweep that asked for less
    assert Job(10)(str(sweep.path), [0, 1]) == {0: "completed", 1: "diverged"}
    assert not worked
    assert Job(10)(str(sweep.path), [0, 1, 2]) == {0: "completed", 1: "diverged", 2: "completed"}
    assert worked == [2]
    environment.num_tasks = 2  # one run of several processes: they meet first
    Job(10)(str(sweep.path), [0])
    assert worked == [2, 0]


def test_why_jobs_wait_is_said_in_words_of_the_queue(sweep: SweepDirectory, console: Console) -> None:
    queue = {"7_0": waiting(DRAINED), "7_1": waiting(DRAINED), "7_2": waiting("")}
    assert table(sweep, console, queue) == [f"2 queued: {DRAINED}", "quick_1: 3 queued"]


def test_why_a_job_waits_stands_beside_it_where_all_are_shown(sweep: SweepDirectory, console: Console) -> None:
    queue = {"7_0": waiting("Priority"), "7_1": waiting("Resources"), "7_2": waiting("")}
    lines = table(sweep, console, queue, every=True)
    assert [line.split()[3:] for line in lines[:3]] == [["Priority"], ["Resources"], []]


@pytest.mark.parametrize(
    ("word", "numbers"),
    [("1", [1]), ("a", [0, 1, 2]), ("a_2", [2]), ("*_[01]", [0, 1]), ("001_a", [1]), ("nothing", [])],
)
def test_logs_are_chosen_by_number_name_beginning_and_glob(
    sweep: SweepDirectory, word: str, numbers: list[int]
) -> None:
    assert [entry.num for entry in chosen(sweep.entries(), [word])] == numbers
