"""Runs that MLflow follows while they go: many at once, servers that die, fail or say nothing, and runs that die."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import sync
from rich.console import Console
from support import SMALL_DATA, journals
from synthetic_sweep import write_run, write_status
from tracking_stores import commit, faulty_server, free_port, journalled, server, statuses, stored

from ncexp.record import Journal, RunDirectory, State
from ncexp.tracking import follow
from ncexp.tracking.sync import FAILURE

pytestmark = pytest.mark.slow

#: A run without training, half a second between its epochs: folder, rate.
RUN = """
import sys, time
from pathlib import Path
from test_follow import run_along, running
run_along([running(Path(sys.argv[1]), float(sys.argv[2]))], lambda epoch: time.sleep(0.5))
"""

#: A real training that is killed while the n-th checkpoint to resume from is brought to the disk (0: never): before it
#: is given its name, or after.
TRAINING = """
import os, signal, sys
from ncexp.launching.task import attempt
from ncexp.config.composing import compose_mapping
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
attempt(compose_mapping("config", sys.argv[2:]), Console())
"""


def running(folder: Path, rate: float = 0.02, uri: str | None = None) -> Path:
    path = write_run(folder, rate=rate, state=State.RUNNING, epochs=list(range(1, 13)), uri=uri)
    commit(path, 0)
    return path


def run_along(paths: list[Path], between: Callable[[int], object] = lambda epoch: None, uri: str | None = None) -> str:
    """One run after another, of twelve epochs with `between` after each; returns what is printed at the end."""
    console = Console(file=io.StringIO(), width=500)
    with follow({"tracking": {"enabled": True, "uri": uri}}, paths, console):
        for path in paths:
            done = max(RunDirectory(path).training.epochs(), default=0)
            with RunDirectory(path).locked():
                for epoch in range(done + 1, 13):
                    commit(path, epoch)
                    between(epoch)
                write_status(path, State.COMPLETED)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _script(text: str, *arguments: object, threads: int = 1) -> subprocess.Popen[str]:
    places = [Path(__file__).parent, Path(__file__).parents[1] / "helpers"]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


def _until(true: Callable[[], bool]) -> None:
    """Wait for what another process does; the test's own limit of time is the end of patience."""
    while not true():
        time.sleep(0.1)


def _statuses(folder: Path) -> list[tuple[str, str]]:
    try:
        return statuses(folder / "mlflow.db") if (folder / "mlflow.db").exists() else []
    except Exception:  # amid the making of its tables
        return []


@pytest.mark.parametrize(("moment", "kill", "covered"), [("before", 1, 0), ("before", 3, 3), ("after", 3, 3)])
def test_training_killed_at_its_checkpoint_sends_nothing_computed_again(
    tmp_path: Path, moment: str, kill: int, covered: int
) -> None:
    """And resumed with another number of threads: every value in MLflow, and every journal, is that of one training."""
    overrides = [*SMALL_DATA, "loss=mse", "architecture=mlp", "architecture.hidden=[16,8]", "optimizer.lr=0.018420157"]
    overrides += ["epochs=8", "batch_size=32", "evaluate_at=[1,3,5]"]
    other = tmp_path / "other"
    undisturbed = _script(TRAINING, moment, 0, *overrides, "threads=1", "tracking.enabled=false", f"outputs={other}")
    killed = _script(TRAINING, moment, kill, *overrides, f"outputs={tmp_path}")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    (path,) = tmp_path.glob("gaussian*")
    assert max(Journal(path / "training.jsonl").epochs(), default=0) == covered
    _until(lambda: ("KILLED", "killed") in _statuses(tmp_path))
    assert sync([str(tmp_path)]) == 0
    expected = journalled([path], through=covered)
    assert stored(tmp_path / "mlflow.db") == {key: points for key, points in expected.items() if points}
    resumed = _script(TRAINING, moment, 0, *overrides, f"outputs={tmp_path}", threads=2)
    resumed.communicate()
    undisturbed.communicate()
    assert resumed.returncode == undisturbed.returncode == 0
    assert journals(path) == journals(next(other.glob("gaussian*")))
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")]


def test_many_processes_fill_a_fresh_embedded_store(tmp_path: Path) -> None:
    scripts = [_script(RUN, tmp_path, 0.001 * (1 + number)) for number in range(12)]
    for script in scripts:  # of 0.4 GB each, and as much again for its follower
        script.communicate()
    _until(lambda: _statuses(tmp_path) == [("FINISHED", "completed")] * len(scripts))
    assert stored(tmp_path / "mlflow.db") == journalled(list(tmp_path.glob("digits-*")))


def test_server_killed_and_restarted_amid_a_run_misses_nothing(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "server"
    with ExitStack() as first, ExitStack() as second:
        uri = first.enter_context(server(folder, port))
        path = running(tmp_path / "runs", uri=uri)

        def between(epoch: int) -> None:
            if epoch == 4:
                _until(lambda: len(stored(folder / "mlflow.db")) == 1)
                first.close()
            if epoch == 8:
                _until((path / FAILURE).exists)  # it has noticed
                second.enter_context(server(folder, port))

        assert f"{uri}/#/experiments/" in run_along([path], between, uri)
        assert not (path / FAILURE).exists()
        assert stored(folder / "mlflow.db") == journalled([path])
        assert statuses(folder / "mlflow.db") == [("FINISHED", "completed")]


@pytest.mark.parametrize("status", [500, None, "dead"])
def test_faulty_server_neither_stops_nor_falsifies_a_run(tmp_path: Path, status: int | str | None) -> None:
    with faulty_server(None if isinstance(status, str) else status) as uri:
        uri = f"http://127.0.0.1:{free_port()}" if status == "dead" else uri
        path = running(tmp_path, uri=uri)
        commit(path, 12)
        before = {file: file.read_bytes() for file in path.rglob("*.jsonl")}
        commit(path, 0)
        said = run_along([path], lambda epoch: epoch != 6 or _until((path / FAILURE).exists), uri)
    assert f"The journals have it all; `ncexp sync --uri {uri} {path}` uploads it then." in said
    assert RunDirectory(path).state() is State.COMPLETED
    assert {file: file.read_bytes() for file in path.rglob("*.jsonl")} == before
    assert sync([str(path), "--uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]) == 0
    assert stored(tmp_path / "mlflow.db") == journalled([path])


def test_run_in_a_cluster_job_keeps_to_its_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert "`ncexp sync` on the submitting machine does" in run_along([running(tmp_path)])
    assert sync([str(tmp_path)]) == 1
    assert "a cluster job does not write an SQLite store" in capsys.readouterr().out
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("sent", [*(signal.SIGINT, signal.SIGTERM, signal.SIGUSR2), signal.SIGKILL])
def test_follower_of_several_runs_ends_by_no_signal_but_the_last(tmp_path: Path, sent: signal.Signals) -> None:
    paths = [running(tmp_path, rate) for rate in (0.01, 0.02, 0.03)]
    followers: list[int] = []

    def between(epoch: int) -> None:
        if epoch == 3 and not followers:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
            words = {int(one): Path(f"/proc/{one}/cmdline").read_bytes() for one in children.read_text().split()}
            followers.extend(one for one, command in words.items() if b"--follow" in command)
            _until(lambda: _statuses(tmp_path) == [("RUNNING", "running")])  # it is in MLflow while it trains
            os.kill(followers[0], sent)

    said = run_along(paths, between)
    assert len(followers) == 1
    assert (said == "") is (sent is not signal.SIGKILL)
    if sent is signal.SIGKILL:
        assert "the process that uploads ended with code -9. The journals have it all; `ncexp sync " in said
        assert sync([str(tmp_path)]) == 0
    assert stored(tmp_path / "mlflow.db") == journalled(paths)
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")] * 3


def test_sync_follow_goes_on_until_the_run_has_ended(tmp_path: Path) -> None:
    path = running(tmp_path)
    with RunDirectory(path).locked():
        following = subprocess.Popen([sys.executable, "-m", "ncexp", "sync", "--follow", str(path)])
        for epoch in (4, 12):
            commit(path, epoch)
            _until(lambda: bool(_statuses(tmp_path)) and stored(tmp_path / "mlflow.db") != {})
        assert _statuses(tmp_path) == [("RUNNING", "running")]
        write_status(path, State.COMPLETED)
    assert following.wait() == 0
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")]
