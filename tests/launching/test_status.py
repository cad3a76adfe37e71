"""The tables of a sweep: what they say of a run that is fresh, that waits, or that left nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from ncexp.launching.slurm import Queue, QueuedJob
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.waiting import current_states, print_table
from ncexp.record import RunDirectory, State

DRAINED = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    """Three runs, submitted as 7_0 to 7_2."""
    sweep = SweepDirectory(tmp_path / "sweeps" / "quick_1")
    sweep.path.mkdir(parents=True)
    runs = [str(tmp_path / f"run{num}_{num}") for num in range(3)]
    sweep.write_entries(
        [Entry(num=num, name="run", key=str(num), directory=run, run=run, overrides=[]) for num, run in enumerate(runs)]
    )
    sweep.record_jobs({num: f"7_{num}" for num in range(3)}, "quick_1:ab")
    return sweep


def table(sweep: SweepDirectory, console: Console, queue: Queue, every: bool = False) -> list[str]:
    print_table(console, sweep, current_states(sweep.entries(), queue), queue, every)
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def waiting(reason: str) -> QueuedJob:
    return QueuedJob("PENDING", reason, "quick_1:ab")


def test_epoch_is_the_last_trained_one_and_none_where_there_is_none(sweep: SweepDirectory, console: Console) -> None:
    fresh, training, _ = (RunDirectory(Path(entry.run)) for entry in sweep.entries())
    for run in (fresh, training):
        run.set_status(State.RUNNING, epoch=0)  # as a run begins
    for epoch in (1, 2, 3):
        training.training.append({"epoch": epoch, "fit/loss": 0.5})
    queue = {f"7_{num}": QueuedJob("RUNNING", "", "quick_1:ab") for num in range(2)}
    first, second, *_ = table(sweep, console, queue)
    assert first.split() == ["000", "run", "running"]
    assert second.split() == ["001", "run", "running", "epoch", "3"]


def test_damaged_journal_is_named_and_the_other_runs_are_shown(sweep: SweepDirectory, console: Console) -> None:
    damaged = RunDirectory(Path(sweep.entries()[0].run))
    damaged.training.path.write_text('{"epoch": 1}\nnonsense\n')
    lines = table(sweep, console, {})
    assert f"{damaged.training.path}: expected a record with its epoch in line 2" in lines[0]
    assert [line[:3] for line in lines[:3]] == ["000", "001", "002"]


def test_log_is_named_only_where_there_is_one(sweep: SweepDirectory, console: Console) -> None:
    first, second, _ = sweep.entries()
    first.task.log.write_text("what it printed\n")
    sweep.jobs.mkdir()
    (sweep.jobs / "7_1_0_log.out").write_text("what its job printed\n")
    lines = table(sweep, console, {})
    assert [line.split()[1] for line in lines if line.startswith("     log")] == [
        str(first.task.log),
        str(sweep.jobs / "7_1_0_log.out"),
    ]
    assert [line for line in lines if "left without a result" in line][2].startswith("002")
    assert second.task.log.exists() is False


def test_why_jobs_wait_is_said_in_words_of_the_queue(sweep: SweepDirectory, console: Console) -> None:
    queue = {"7_0": waiting(DRAINED), "7_1": waiting(DRAINED), "7_2": waiting("")}
    assert table(sweep, console, queue) == [f"2 queued: {DRAINED}", "quick_1: 3 queued"]


def test_why_a_job_waits_stands_beside_it_where_all_are_shown(sweep: SweepDirectory, console: Console) -> None:
    queue = {"7_0": waiting("Priority"), "7_1": waiting("Resources"), "7_2": waiting("")}
    lines = table(sweep, console, queue, every=True)
    assert [line.split()[3:] for line in lines[:3]] == [["Priority"], ["Resources"], []]
