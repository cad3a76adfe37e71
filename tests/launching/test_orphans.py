"""No worker trains for nobody: however early whoever started it dies, it ends too."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path

import pytest
from sweeps import LONG, Project, processes, until


def workers(project: Project) -> list[int]:
    return [number for kind, number in processes(project.folder) if kind == "worker"]


def test_worker_whose_parent_is_gone_works_on_nothing(tmp_path: Path) -> None:
    """The parent that it is told of is not there, as if it had died before the worker could be bound to it."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours, theirs = Pipe()
    ours.send_bytes(f'["{tmp_path / "configuration.yaml"}", "{tmp_path / "log"}"]'.encode())
    command = [sys.executable, "-m", "ncexp", "run-frozen", str(theirs.fileno()), str(gone.pid)]
    done = subprocess.run(command, pass_fds=[theirs.fileno()], capture_output=True, check=False)
    assert (done.returncode, done.stderr, ours.poll()) == (0, b"", False)
    assert not (tmp_path / "log").exists()


@pytest.mark.slow
@pytest.mark.parametrize("later", [0.0, 0.1, 1.0])
def test_launcher_killed_as_its_workers_start_leaves_none(project: Project, later: float) -> None:
    project.hold()
    launcher = project.start(*project.sweep_arguments("seed=1,2", LONG, launcher="local"))
    until(lambda: len(workers(project)) == 2, "the workers")
    time.sleep(later)
    os.kill(launcher.pid, signal.SIGKILL)
    until(lambda: not workers(project), "the workers' end")
    # Of a run that had begun its status says so; of one that had not, nothing does.
    assert re.search("2 lost|1 killed, 1 lost|2 killed", project.run("status", "last")[1])
