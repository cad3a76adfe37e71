"""A real SLURM, if there is one; a project folder to sweep in; workers whose runs end as a test says."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from scripted_workers import Scripted, entries
from sweeps import Project

from ncexp.launching import pool
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import JOB_VARIABLE


def _why_no_slurm() -> str | None:
    if shutil.which("scontrol") is None:
        return "SLURM is not installed: launch/dev_cluster install-check"
    done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or "is UP" not in done.stdout:
        return 'SLURM does not respond: eval "$(launch/dev_cluster start)"'
    return None


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """The cluster, for the tests of one file at a time: some of them declare its node dead.

    Skips the test where there is no SLURM; in CI that is a failure.
    """
    if reason := _why_no_slurm():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with FileLock(Path(tempfile.gettempdir()) / "ncexp_tests_slurm.lock"):
        yield


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.close()


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    """Three runs, submitted as 7_0 to 7_2."""
    sweep = SweepDirectory(tmp_path / "sweeps" / "quick_1")
    sweep.jobs.mkdir(parents=True)
    sweep.write_entries(entries(tmp_path, 3))
    sweep.record_jobs({num: f"7_{num}" for num in range(3)}, "quick_1:ab")
    return sweep


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setattr(pool, "Worker", Scripted)
    monkeypatch.setenv(JOB_VARIABLE, "restored after the test")
    Scripted.ends, Scripted.made = {}, []
    return Scripted
