"""How a run stands, for everything that status.json, job.json and squeue can say together."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ncexp.launching.states import state_of, tell_counts
from ncexp.launching.sweep_directory import Entry, SweepDirectory, find_sweep
from ncexp.run_directory import JOB_VARIABLE, RunDirectory

RUNNING, PENDING, GONE = {"7": "RUNNING"}, {"7": "PENDING"}, {"8": "RUNNING"}
HERE = f"local:{socket.gethostname()}:{os.getpid()}"
NOBODY = f"local:{socket.gethostname()}:{2**22 + 1}"


@pytest.mark.parametrize(
    ("said", "by", "job", "queue", "expected"),
    [
        (None, None, None, {}, "new"),
        (None, None, "7", PENDING, "queued"),
        (None, None, "7", RUNNING, "running"),
        (None, None, "7", GONE, "lost"),
        (None, None, "7", None, "unknown"),
        ("completed", "7", "7", GONE, "completed"),
        ("completed", None, "7", PENDING, "completed"),
        ("diverged", "7", "7", None, "diverged"),
        ("running", "7", "7", RUNNING, "running"),
        ("running", "7", "7", GONE, "lost"),
        ("running", None, None, {}, "lost"),
        ("failed", "7", "7", RUNNING, "failed"),  # its neighbours in the job go on
        ("failed", "6", "7", PENDING, "queued"),  # that was an earlier job
        ("failed", "6", "7", GONE, "lost"),
        ("interrupted", "7", "7", PENDING, "queued"),  # requeued
        ("interrupted", "7", "7", GONE, "interrupted"),
        ("interrupted", HERE, HERE, {}, "interrupted"),
        (None, None, HERE, {}, "queued"),
        (None, None, NOBODY, {}, "lost"),
    ],
)
def test_state_of_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str | None,
    by: str | None,
    job: str | None,
    queue: dict[str, str] | None,
    expected: str,
) -> None:
    run = RunDirectory(tmp_path)
    if by is None:
        monkeypatch.delenv(JOB_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(JOB_VARIABLE, by)
    if said is not None:
        run.set_status(said)
    if job is not None:
        run.set_job(job)
    assert state_of(run, queue) == expected


def test_state_of_a_run_that_a_process_trains_is_running(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.locked():
        run.set_status("running")
        assert state_of(run, {}) == "running"


def test_counts_are_told_in_one_order() -> None:
    assert tell_counts(["new", "failed", "completed", "failed"]) == "1 completed, 2 failed, 1 new"
    assert tell_counts([]) == "none"


def test_find_sweep_takes_a_beginning_and_refuses_what_is_not_one(tmp_path: Path) -> None:
    for name in ("quick_1234", "quick_5678", "other_1234"):
        sweep = SweepDirectory(tmp_path / "sweeps" / name)
        sweep.path.mkdir(parents=True)
        sweep.write_entries([Entry(num=0, name="a", key="b", directory=str(tmp_path / "a_b"), overrides=[])])
    assert find_sweep(tmp_path, "other").path.name == "other_1234"
    assert find_sweep(tmp_path, "quick_5").path.name == "quick_5678"
    assert find_sweep(tmp_path, str(tmp_path / "sweeps" / "quick_1234")).entries()[0].title == "000_a_b"
    with pytest.raises(ValueError, match=r"got 'quick'\. Valid: quick_1234, quick_5678"):
        find_sweep(tmp_path, "quick")
    with pytest.raises(ValueError, match="There are none"):
        find_sweep(tmp_path / "nowhere", "last")
