"""Runs that are uploaded while they go: many at once, with servers that die, fail or say nothing, and runs that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ncexp.tracking.uploader import FAILURE
from support import journals
from synthetic_sweep import write_run, write_status
from tracking_stores import cover, faulty_server, free_port, journalled, server, server_and_group, statuses, stored

from ncexp.cli.sync import main as sync
from ncexp.record import Journal, RunDirectory, State
from ncexp.tracking import Uploader, start_uploader, tracking_uri, uploader

#: A run without training: folder, rate, pause between epochs, and the epoch after which it kills itself (0: never).
RUN = """
import os, signal, sys, time
from pathlib import Path
from support import SMALL
from synthetic_sweep import write_run, write_status
from tracking_stores import cover
from ncexp.record import RunDirectory, State
from ncexp.tracking import Uploader, tracking_uri
folder, rate, pause, kill = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
path = write_run(folder, rate=rate, state=State.RUNNING, epochs=list(range(1, 13)))
directory = RunDirectory(path)
done = directory.covered_epoch()
with directory.locked():
    uploader = Uploader(directory, tracking_uri(None, folder), "digits")
    for epoch in range(done + 1, 13):
        cover(path, epoch)
        uploader.notify(epoch)
        time.sleep(pause)
        if epoch == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    write_status(path, State.COMPLETED)
    print(uploader.finish())
"""

#: A real training that is killed while the n-th checkpoint to resume from is brought to the disk (0: never): before it
#: is given its name, or after.
TRAINING = """
import os, signal, sys
from ncexp.main import run
from ncexp.config.composing import compose_plain
from rich.console import Console
moment, kill, count, fsync = sys.argv.pop(1), int(sys.argv[1]), 0, os.fsync
def killing_fsync(descriptor):
    global count
    name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
    count += name.startswith(".resume.") if moment == "before" else name == "checkpoints"
    if kill and count == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = killing_fsync
run(compose_plain("config", sys.argv[2:]), Console())
"""


@pytest.fixture(autouse=True)
def own_uploader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An uploader for each test: one that still waits for another test's dead server would keep this one waiting."""
    running: dict[int, subprocess.Popen[bytes]] = {}
    monkeypatch.setattr(uploader, "_running", running)
    yield
    for process in running.values():
        process.kill()
        process.communicate()


def _script(text: str, *arguments: object, threads: int = 1) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1] / "helpers"),
        "OMP_NUM_THREADS": str(threads),
    }
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _start(folder: Path, rate: float, pause: float = 0.0, kill: int = 0) -> subprocess.Popen[str]:
    return _script(RUN, folder, rate, pause, kill)


def _until(true: Callable[[], bool]) -> None:
    """Wait for what another process does; the test's own limit of time is the end of patience."""
    while not true():
        time.sleep(0.1)


def _running(folder: Path, rate: float = 0.02) -> Path:
    return write_run(folder, rate=rate, state=State.RUNNING, epochs=list(range(1, 13)))


def _run_along(path: Path, uri: str, between: Callable[[int], object]) -> str | None:
    """Twelve epochs, with `between` after each; returns what `finish` does."""
    directory = RunDirectory(path)
    with directory.locked():
        uploading = Uploader(directory, uri, "digits")
        for epoch in range(1, 13):
            cover(path, epoch)
            uploading.notify(epoch)
            between(epoch)
        write_status(path, State.COMPLETED)
        return uploading.finish()


@pytest.mark.slow
def test_uploader_is_started_ahead_only_for_a_store_that_this_process_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "_running", {})
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    start_uploader(None)
    assert not uploader._running
    monkeypatch.delenv("SLURM_JOB_ID")
    start_uploader(None)
    (ahead,) = uploader._running.values()
    assert _run_along(_running(tmp_path), tracking_uri(None, tmp_path), lambda epoch: None) is None
    assert list(uploader._running.values()) == [ahead]
    assert ahead.stdin is not None
    ahead.stdin.close()
    assert ahead.wait() == 0


@pytest.mark.slow
def test_uploader_killed_run_is_marked_at_once_and_resumes_in_the_same_mlflow_run(tmp_path: Path) -> None:
    killed = _start(tmp_path, rate=0.02, kill=5)
    killed.communicate()
    database = tmp_path / "mlflow.db"
    _until(lambda: ("KILLED", "killed") in _quietly(database))
    (path,) = tmp_path.glob("digits-*")
    assert stored(database) == journalled([path], through=5)
    resumed = _start(tmp_path, rate=0.02)
    assert resumed.communicate()[0].strip() == "None"
    assert stored(database) == journalled([path])
    assert statuses(database) == [("FINISHED", "completed")]


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "kill", "covered"), [("before", 1, 0), ("before", 3, 3), ("after", 3, 5)])
def test_uploader_of_training_killed_at_its_checkpoint_sends_nothing_that_is_computed_again(
    tmp_path: Path, moment: str, kill: int, covered: int
) -> None:
    """And resumed with another number of threads: every value in MLflow, and every journal, is that of one training."""
    overrides = [
        *(
            "dataset=gaussian_mixture",
            "dataset.num_classes=4",
            "dataset.num_features=6",
            "dataset.examples_per_class=20",
        ),
        *("dataset.test_examples_per_class=10", "architecture=mlp", "architecture.hidden=[16,8]", "loss=mse"),
        *("optimizer.lr=0.018420157", "epochs=8", "batch_size=32", "evaluate_at=[1,3,5]", "threads=1"),
    ]
    undisturbed = _script(TRAINING, moment, 0, *overrides, "tracking.enabled=false", f"outputs={tmp_path / 'other'}")
    overrides = [word for word in overrides if word != "threads=1"] + [f"outputs={tmp_path}"]
    killed = _script(TRAINING, moment, kill, *overrides)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    (path,) = tmp_path.glob("gaussian*")
    assert max(Journal(path / "training.jsonl").epochs()) >= covered
    _until(lambda: ("KILLED", "killed") in _quietly(tmp_path / "mlflow.db"))
    assert sync([str(tmp_path)]) == 0
    expected = journalled([path], through=covered)
    assert stored(tmp_path / "mlflow.db") == {key: points for key, points in expected.items() if points}
    resumed = _script(TRAINING, moment, 0, *overrides, threads=2)
    resumed.communicate()
    undisturbed.communicate()
    assert resumed.returncode == undisturbed.returncode == 0
    assert journals(path) == journals(next((tmp_path / "other").glob("gaussian*")))
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")]


def _quietly(database: Path) -> list[tuple[str, str]]:
    try:
        return statuses(database) if database.exists() else []
    except Exception:  # amid the making of its tables
        return []


#: So many runs at once, each with an uploader: two processes of 0.4 GB, so that the machine's memory holds them.
WRITERS = 12


@pytest.mark.slow
def test_uploader_many_processes_fill_a_fresh_embedded_store(tmp_path: Path) -> None:
    runs = [_start(tmp_path, rate=0.001 * (1 + number), pause=0.5) for number in range(WRITERS)]
    for run in runs:
        run.communicate()
    paths = list(tmp_path.glob("digits-*"))
    assert len(paths) == WRITERS
    # On a busy machine a run does not wait to the end for its uploader, which goes on.
    _until(lambda: _quietly(tmp_path / "mlflow.db") == [("FINISHED", "completed")] * WRITERS)
    assert stored(tmp_path / "mlflow.db") == journalled(paths)


@pytest.mark.slow
def test_uploader_server_killed_and_restarted_amid_a_run_misses_nothing(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "server"
    path = _running(tmp_path / "runs")
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


@pytest.mark.slow
@pytest.mark.parametrize("status", [500, None], ids=["responds 500", "never responds"])
def test_uploader_faulty_server_neither_stops_nor_falsifies_a_run(tmp_path: Path, status: int | None) -> None:
    path = _running(tmp_path)
    before = {file: file.read_bytes() for file in path.rglob("*.jsonl")}
    with faulty_server(status) as uri:

        def between(epoch: int) -> None:
            if epoch == 6 and status is not None:
                _until((path / FAILURE).exists)

        said = _run_along(path, uri, between)
    assert said is not None
    assert RunDirectory(path).state() is State.COMPLETED
    assert {file: file.read_bytes() for file in path.rglob("*.jsonl")} == before
    assert sync([str(path), "--uri", tracking_uri(None, tmp_path)]) == 0
    assert stored(tmp_path / "mlflow.db") == journalled([path])


@pytest.mark.slow
def test_uploader_server_that_hangs_after_it_worked_is_waited_for_within_the_bound(tmp_path: Path) -> None:
    path, folder = _running(tmp_path / "runs"), tmp_path / "server"
    with server_and_group(folder, free_port()) as (uri, group):

        def between(epoch: int) -> None:
            if epoch == 6:
                _until(lambda: len(stored(folder / "mlflow.db")) == 1)
                os.killpg(group, signal.SIGSTOP)

        said = _run_along(path, uri, between)
        assert said is not None
        os.killpg(group, signal.SIGCONT)
        _until(lambda: sync([str(path), "--uri", uri]) == 0)
        assert stored(folder / "mlflow.db") == journalled([path])


@pytest.mark.slow
def test_uploader_dead_server_costs_a_run_nothing(tmp_path: Path) -> None:
    path = _running(tmp_path)
    said = _run_along(path, f"http://127.0.0.1:{free_port()}", lambda epoch: None)
    assert said is not None
    assert RunDirectory(path).state() is State.COMPLETED


@pytest.mark.slow
def test_uploader_in_a_cluster_job_keeps_to_the_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    said = _run_along(_running(tmp_path), tracking_uri(None, tmp_path), lambda epoch: None)
    assert said is not None
    assert "ncexp sync" in said
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_uploader_serves_runs_one_after_the_other_and_outlives_its_own_death(tmp_path: Path) -> None:
    paths = [_running(tmp_path, rate) for rate in (0.01, 0.02, 0.03)]
    uri = tracking_uri(None, tmp_path)
    assert _run_along(paths[0], uri, lambda epoch: None) is None
    helper = uploader._process()
    said = _run_along(paths[1], uri, lambda epoch: os.kill(helper.pid, signal.SIGKILL) if epoch == 3 else None)
    assert said == "the process that uploads ended with code -9"
    helper.wait()
    assert _run_along(paths[2], uri, lambda epoch: None) is None
    assert sync([str(tmp_path)]) == 0
    assert stored(tmp_path / "mlflow.db") == journalled(paths)
