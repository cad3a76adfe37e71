"""How a task stands, for everything that status.json, job.json and squeue can say together."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from scripted_workers import entries

from ncexp.launching.slurm import Queue, QueuedJob
from ncexp.launching.states import own_job, process_of, state_of
from ncexp.launching.sweep_directory import SweepDirectory, find_sweep
from ncexp.record import JOB_VARIABLE, RunDirectory, State

RUNNING, PENDING = ({"7": QueuedJob(state, "", "quick:1")} for state in ("RUNNING", "PENDING"))
GONE = {"8": QueuedJob("RUNNING", "", "quick:1")}
#: After a restart SLURM counts from one again.
STRANGER = {"7": QueuedJob("RUNNING", "", "quick:2"), "8": QueuedJob("RUNNING", "", None)}
HERE = own_job()
NOBODY = ":".join([*HERE.split(":")[:2], str(2**22 + 1), "1"])
#: This process's number, when another process had it.
EARLIER = f"{HERE}1"


@pytest.mark.parametrize(
    ("said", "by", "job", "queue", "expected"),
    [
        (None, None, None, {}, "new"),
        (None, None, "7", PENDING, "queued"),
        (None, None, "7", RUNNING, "running"),
        (None, None, "7", GONE, "lost"),
        (None, None, "7", STRANGER, "lost"),
        (None, None, "7", None, "unknown"),
        ("completed", "7", "7", GONE, "completed"),
        ("completed", None, "7", PENDING, "completed"),
        ("diverged", "7", "7", None, "diverged"),
        ("running", "7", "7", RUNNING, "running"),
        ("running", "7", "7", GONE, "killed"),
        ("running", HERE, HERE, {}, "killed"),  # the local launcher goes on, the run's process does not
        ("running", None, None, {}, "killed"),
        ("failed", "7", "7", RUNNING, "failed"),  # its neighbours in the job go on
        ("failed", "6", "7", PENDING, "queued"),  # that was an earlier job
        ("failed", "6", "7", GONE, "lost"),
        ("interrupted", "7", "7", PENDING, "queued"),  # requeued
        ("interrupted", "7", "7", GONE, "interrupted"),
        ("interrupted", HERE, HERE, {}, "interrupted"),
        (None, None, HERE, {}, "queued"),
        (None, None, NOBODY, {}, "lost"),
        (None, None, EARLIER, {}, "lost"),
    ],
    ids=map(str, count()),  # the values hold this process's number, which differs between parallel test processes
)
def test_state_of_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str | None,
    by: str | None,
    job: str | None,
    queue: Queue | None,
    expected: str,
) -> None:
    run = RunDirectory(tmp_path)
    if by is None:
        monkeypatch.delenv(JOB_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(JOB_VARIABLE, by)
    if said is not None:
        run.set_status(State(said))
    if job is not None:
        run.set_job(job, None if job.startswith("local:") else "quick:1")
    assert state_of(run, queue) == expected


@pytest.mark.parametrize("said", [None, State.RUNNING, State.INTERRUPTED])
@pytest.mark.parametrize("job", [None, "7", NOBODY], ids=["none", "gone", "dead"])
def test_run_whose_lock_a_process_holds_is_running_whoever_started_it(
    tmp_path: Path, said: State | None, job: str | None
) -> None:
    run = RunDirectory(tmp_path)
    with run.locked():
        if said is not None:
            run.set_status(said)
        if job is not None:
            run.set_job(job)
        assert state_of(run, {}) is State.RUNNING


def test_process_that_nobody_has_waited_for_works_no_more() -> None:
    """The system keeps its number as long as its parent does not ask how it ended."""
    job = "from ncexp.launching.states import own_job; print(own_job(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", job], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    word = process.stdout.readline().strip()
    assert process_of(word) == process.pid
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_of(word) is None
    process.communicate()


def test_find_sweep_takes_a_beginning_and_refuses_what_is_not_one(tmp_path: Path) -> None:
    for name in ("quick_1234", "quick_5678", "other_1234"):
        sweep = SweepDirectory(tmp_path / "sweeps" / name)
        sweep.path.mkdir(parents=True)
        sweep.write_entries(entries(tmp_path, 1))
    assert find_sweep(tmp_path, "other").path.name == "other_1234"
    assert find_sweep(tmp_path, "quick_5").path.name == "quick_5678"
    assert find_sweep(tmp_path, str(tmp_path / "sweeps" / "quick_1234")).entries()[0].title == "000_a_0"
    with pytest.raises(ValueError, match=r"got 'quick'\. Valid: quick_1234, quick_5678"):
        find_sweep(tmp_path, "quick")
    with pytest.raises(ValueError, match="There are none"):
        find_sweep(tmp_path / "nowhere", "last")
