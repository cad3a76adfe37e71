"""Runs that are followed while they go: many at once, with servers that die, fail or say nothing, and runs that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from synthetic_sweep import curves, write_run, write_status
from tracking_stores import answering, free_port, journalled, server, statuses, stored

from ncexp.run_directory import RunDirectory
from ncexp.tracking import Follower, follower, start_follower, tracking_uri
from ncexp.tracking.follower import FAILURE
from ncexp.tracking.sync import main as sync

#: A run without training: folder, rate, pause between epochs, and the epoch after which it kills itself (0: never).
RUN = """
import os, signal, sys, time
from pathlib import Path
from synthetic_sweep import curves, write_run, write_status
from ncexp.run_directory import RunDirectory
from ncexp.tracking import Follower, tracking_uri
folder, rate, pause, kill = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
there = list(folder.glob(f"*_lr{rate:g}_*"))
path = there[0] if there else write_run(folder, rate=rate, state="running", epochs=[])
directory = RunDirectory(path)
done = len(directory.journal.read())
with directory.locked():
    follower = Follower(directory, tracking_uri(None, folder), "digits")
    for record in curves(rate, 0, 1.0, list(range(done + 1, 13))):
        directory.journal.append(record)
        follower.notify(int(record["epoch"]))
        time.sleep(pause)
        if record["epoch"] == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    write_status(path, "completed")
    print(follower.finish())
"""


def _start(folder: Path, rate: float, pause: float = 0.0, kill: int = 0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", RUN, str(folder), str(rate), str(pause), str(kill)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _until(true: Callable[[], bool]) -> None:
    """Wait for what another process does; the test's own limit of time is the end of patience."""
    while not true():
        time.sleep(0.1)


def _run_along(path: Path, uri: str, between: Callable[[int], None]) -> str | None:
    """Twelve epochs with a word to the test after each; answers what `finish` does."""
    directory = RunDirectory(path)
    with directory.locked():
        follower = Follower(directory, uri, "digits")
        for record in curves(0.02, 0, 1.0, list(range(1, 13))):
            directory.journal.append(record)
            follower.notify(int(record["epoch"]))
            between(int(record["epoch"]))
        write_status(path, "completed")
        return follower.finish()


def test_follower_is_started_ahead_only_for_a_store_that_this_process_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_running", {})
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    start_follower(None)
    assert not follower._running
    monkeypatch.delenv("SLURM_JOB_ID")
    start_follower(None)
    (ahead,) = follower._running.values()
    path = write_run(tmp_path, rate=0.02, state="running", epochs=[])
    assert _run_along(path, tracking_uri(None, tmp_path), lambda epoch: None) is None
    assert list(follower._running.values()) == [ahead]
    assert ahead.stdin is not None
    ahead.stdin.close()
    assert ahead.wait() == 0


def test_follower_killed_run_is_told_of_at_once_and_resumes_in_the_same_mlflow_run(tmp_path: Path) -> None:
    killed = _start(tmp_path, rate=0.02, kill=5)
    killed.wait()
    database = tmp_path / "mlflow.db"
    _until(lambda: database.exists() and ("KILLED", "killed") in _quietly(database))
    resumed = _start(tmp_path, rate=0.02)
    assert resumed.communicate()[0].strip() == "None"
    paths = list(tmp_path.glob("digits-*"))
    assert stored(database) == journalled(paths)
    assert statuses(database) == [("FINISHED", "completed")]


def _quietly(database: Path) -> list[tuple[str, str]]:
    try:
        return statuses(database)
    except Exception:  # amid the making of its tables
        return []


@pytest.mark.slow
def test_follower_32_processes_fill_a_fresh_embedded_store(tmp_path: Path) -> None:
    runs = [_start(tmp_path, rate=0.001 * (1 + number), pause=0.5) for number in range(32)]
    for run in runs:
        run.communicate()
    paths = list(tmp_path.glob("digits-*"))
    assert len(paths) == 32
    # On a busy machine a run does not wait to the end for its follower, which goes on.
    _until(lambda: _quietly(tmp_path / "mlflow.db") == [("FINISHED", "completed")] * 32)
    assert stored(tmp_path / "mlflow.db") == journalled(paths)


@pytest.mark.slow
def test_follower_server_killed_and_restarted_amid_a_run_misses_nothing(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "server"
    path = write_run(tmp_path / "runs", state="running", epochs=[])
    with ExitStack() as first, ExitStack() as second:
        uri = first.enter_context(server(folder, port))

        def between(epoch: int) -> None:
            if epoch == 4:
                _until(lambda: len(stored(folder / "mlflow.db")) == 1)
                first.close()
            if epoch == 8:
                _until((path / FAILURE).exists)  # it has noticed
                second.enter_context(server(folder, port))

        _run_along(path, uri, between)
        assert sync([str(path), "--uri", uri]) == 0
        assert not (path / FAILURE).exists() or sync([str(path), "--uri", uri]) == 0
        assert stored(folder / "mlflow.db") == journalled([path])
        assert statuses(folder / "mlflow.db") == [("FINISHED", "completed")]


@pytest.mark.parametrize("status", [500, None], ids=["answers 500", "never answers"])
def test_follower_faulty_server_neither_stops_nor_falsifies_a_run(tmp_path: Path, status: int | None) -> None:
    path = write_run(tmp_path, state="running", epochs=[])
    with answering(status) as uri:

        def between(epoch: int) -> None:
            if epoch == 6 and status is not None:
                _until((path / FAILURE).exists)

        said = _run_along(path, uri, between)
    assert said is not None
    assert RunDirectory(path).state() == "completed"
    assert [record["epoch"] for record in RunDirectory(path).journal.read()] == list(range(1, 13))
    assert sync([str(path), "--uri", tracking_uri(None, tmp_path)]) == 0
    assert stored(tmp_path / "mlflow.db") == journalled([path])


def test_follower_dead_server_costs_a_run_nothing(tmp_path: Path) -> None:
    path = write_run(tmp_path, state="running", epochs=[])
    said = _run_along(path, f"http://127.0.0.1:{free_port()}", lambda epoch: None)
    assert said is not None
    assert RunDirectory(path).journal.read()[-1]["epoch"] == 12


def test_follower_in_a_cluster_job_keeps_to_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    path = write_run(tmp_path, state="running", epochs=[])
    said = _run_along(path, tracking_uri(None, tmp_path), lambda epoch: None)
    assert said is not None
    assert "ncexp sync" in said
    assert not (tmp_path / "mlflow.db").exists()


def test_follower_serves_runs_one_after_the_other_and_outlives_its_own_death(tmp_path: Path) -> None:
    from ncexp.tracking.follower import _process

    paths = [write_run(tmp_path, rate=rate, state="running", epochs=[]) for rate in (0.01, 0.02, 0.03)]
    uri = tracking_uri(None, tmp_path)
    assert _run_along(paths[0], uri, lambda epoch: None) is None
    helper = _process()
    assert _run_along(paths[1], uri, lambda epoch: os.kill(helper.pid, signal.SIGKILL) if epoch == 3 else None)
    helper.wait()
    assert _run_along(paths[2], uri, lambda epoch: None) is None
    assert sync([str(tmp_path)]) == 0
    assert stored(tmp_path / "mlflow.db") == journalled(paths)
