"""The tables of a sweep: what they say of a run that is fresh, that waits, or that left nothing behind."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from commands import cancel
from rich.console import Console
from scripted_workers import JOBS

from ncexp.cli.status import chosen
from ncexp.launching import job
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


def queue(*reasons: str | None) -> Queue:
    """Each job of the sweep, waiting for a reason; None: it runs."""
    found = [QueuedJob("7_0", "RUNNING" if reason is None else "PENDING", reason or "") for reason in reasons]
    return dict(zip(JOBS, found, strict=False))


def test_epoch_is_the_last_trained_one_and_none_where_there_is_none(sweep: SweepDirectory, console: Console) -> None:
    fresh, training, _ = (RunDirectory(Path(entry.run)) for entry in sweep.entries())
    for run in (fresh, training):
        run.set_status(State.RUNNING, epoch=0)  # as a run begins
    for epoch in (1, 2, 3):
        training.training.put({"epoch": epoch, "fit/loss": 0.5})
    first, second, *_ = table(sweep, console, queue(None, None))
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
    (sweep.jobs / f"{JOBS[1]}_0_log.out").write_text("what its job printed\n")
    lines = table(sweep, console, {})
    assert [line.split()[1] for line in lines if line.startswith("     log")] == [
        str(first.task.log),
        str(sweep.jobs / f"{JOBS[1]}_0_log.out"),
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
    log = sweep.jobs / f"{JOBS[0]}_0_log.out"
    log.write_text(f"job 7_0 renamed\n{said}\n")
    line, shown, *_ = table(sweep, console, {})
    assert line.startswith("000  seed=0  lost")
    assert why in line
    assert shown.split() == ["log", str(log)]


def test_jobs_that_slurm_put_back_when_their_runs_were_through_are_counted(sweep: SweepDirectory) -> None:
    entries = sweep.entries()
    entries[0].task.set_status(State.COMPLETED)
    entries[1].task.set_status(State.DIVERGED)
    waiting = queue("BeginTime", None, "Priority")
    assert standing(entries, waiting).put_back == {JOBS[0]}
    assert standing([replace(entry, job=JOBS[0]) for entry in entries], waiting).put_back == set()
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

    monkeypatch.setattr(job, "work", work)
    monkeypatch.setattr(job, "followed", lambda *_: nullcontext())
    monkeypatch.setattr(job, "_introduce", lambda _: None)
    monkeypatch.setattr(job, "_place", lambda: (0, processes))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    sweep.record_jobs(dict.fromkeys(range(3), JOBS[0]))
    ends = [(0, State.COMPLETED), (0, State.DIVERGED), (1, State.COMPLETED)]  # the third by a job of another sweep
    for entry, (by, state) in zip(sweep.entries(), ends, strict=True):
        monkeypatch.setenv("NCEXP_JOB", JOBS[by])
        entry.task.set_status(state)
    name, limits, processes = JOBS[0].removesuffix("_0"), job.Limits(10, 120, 3), 1
    assert job.carry_out(sweep, name, limits) == 0
    assert worked == [2]
    sweep.record_jobs({2: None})
    assert job.carry_out(sweep, name, limits) == 0
    assert worked == [2]
    processes = 2  # one run of several processes: they meet first
    assert job.carry_out(sweep, name, limits) == 0
    assert worked == [2, 0, 1]
    sweep.record_jobs(dict.fromkeys(range(3), JOBS[1]))  # whoever finds nothing that is its own says so
    assert job.carry_out(sweep, name, limits) == 1


def test_why_jobs_wait_is_said_in_words_of_the_queue(sweep: SweepDirectory, console: Console) -> None:
    assert table(sweep, console, queue(DRAINED, DRAINED, "")) == [f"2 queued: {DRAINED}", "quick_1: 3 queued"]


def test_why_a_job_waits_stands_beside_it_where_all_are_shown(sweep: SweepDirectory, console: Console) -> None:
    lines = table(sweep, console, queue("Priority", "Resources", ""), every=True)
    assert [line.split()[3:] for line in lines[:3]] == [["Priority"], ["Resources"], []]


@pytest.mark.parametrize(
    ("word", "numbers"),
    [("1", [1]), ("a", [0, 1, 2]), ("a_2", [2]), ("*_[01]", [0, 1]), ("001_a", [1]), ("nothing", [])],
)
def test_logs_are_chosen_by_number_name_beginning_and_glob(
    sweep: SweepDirectory, word: str, numbers: list[int]
) -> None:
    assert [entry.num for entry in chosen(sweep.entries(), [word])] == numbers
