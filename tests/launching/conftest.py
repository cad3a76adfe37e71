"""A real SLURM, if there is one; a project folder to sweep in; and a look at what SLURM thinks of a job."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import SMALL_DATA

PARTS = Path(__file__).parent / "parts"
#: Jobs start within seconds, but the machine may be busy: a test that waits longer than this has found a defect.
PATIENCE_S = 150

PACED = """\
name: paced
_target_: paced.Paced
folder: {folder}
behaviour: calm
width: 8
"""
SMALL = [
    *SMALL_DATA,
    "architecture=paced",
    "loss=mse",
    "optimizer.lr=0.02",
    "epochs=4",
    "batch_size=32",
    "analysis=[neural_collapse]",
    "analysis_epochs=[1,2,3,4]",
    "device=cpu",
]


class Project:
    """A folder in which somebody sweeps: choices of their own, a network of their own, outputs/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        self.started: list[subprocess.Popen[str]] = []
        self.choice = folder / "choices" / "architecture" / "paced.yaml"
        self.choice.parent.mkdir(parents=True)
        self.choice.write_text(PACED.format(folder=folder))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`ncexp ARGUMENTS`, not waited for."""
        process = subprocess.Popen(
            [sys.executable, "-m", "ncexp", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(PARTS), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """Leave nothing behind that runs, however the test ended."""
        for process in self.started:
            process.kill()
        for manifest in self.outputs.glob("sweeps/*/manifest.jsonl"):
            jobs = {json.loads(line)["job"] or "local:" for line in manifest.read_text().splitlines()}
            for job in jobs:
                if not job.startswith("local:"):
                    subprocess.run(["scancel", "--quiet", job], capture_output=True, check=False)

    def run(self, *arguments: str) -> tuple[int, str]:
        """`ncexp ARGUMENTS`; exit code and everything it said."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=2 * PATIENCE_S)
        return process.returncode, said

    def sweep_arguments(self, *overrides: str, launcher: str = "slurm", tracking: bool = False) -> list[str]:
        """The arguments of a small sweep."""
        slurm = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.poll_s=0.5", "hydra.launcher.grace_s=3"]
        return [
            "--config-dir", "choices", "-m", *SMALL, f"tracking.enabled={str(tracking).lower()}",
            f"hydra/launcher={launcher}", *(slurm if launcher == "slurm" else []), *overrides,
        ]  # fmt: skip

    def sweep(self, *overrides: str, **options: Any) -> tuple[int, str]:
        """Carry out a small sweep."""
        return self.run(*self.sweep_arguments(*overrides, **options))

    def hold(self) -> Path:
        """Make every training slow until the file is removed."""
        path = self.folder / "hold"
        path.touch()
        return path

    def manifest(self, index: int = 0) -> list[dict[str, Any]]:
        """The lines of a sweep's manifest, in order of their numbers."""
        paths = sorted((self.outputs / "sweeps").glob("*/manifest.jsonl"))
        return [json.loads(line) for line in paths[index].read_text().splitlines()]

    def status(self, entry: dict[str, Any]) -> dict[str, Any]:
        """status.json of a run; empty before the first."""
        path = Path(entry["directory"]) / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def states(self) -> list[str | None]:
        return [self.status(entry).get("state") for entry in self.manifest()]

    def wait_for(self, entry: dict[str, Any], lines: int = 1) -> None:
        """Until the run's journal has so many lines."""
        journal = Path(entry["directory"]) / "journal.jsonl"
        until(lambda: journal.exists() and journal.read_text().count("\n") >= lines, f"{lines} lines in {journal}")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that must come to pass."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_S, f"waited in vain for {what}"
        time.sleep(0.2)


def job_facts(job: str) -> dict[str, str]:
    """What `scontrol show job` says; empty for a job that SLURM has forgotten."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, check=False)
    return dict(re.findall(r"(\w+)=(\S*)", done.stdout))


def queue() -> list[str]:
    """The jobs that wait or run."""
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _why_no_slurm() -> str | None:
    if shutil.which("scontrol") is None:
        return "SLURM is not installed: launch/dev_cluster install-check"
    done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or "is UP" not in done.stdout:
        return 'SLURM does not answer: eval "$(launch/dev_cluster start)"'
    return None


@pytest.fixture(scope="session")
def slurm() -> None:
    """Skips the test where there is no SLURM to test against; in CI that is a failure."""
    if reason := _why_no_slurm():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.close()
