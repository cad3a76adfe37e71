"""A project folder to sweep in, and what SLURM and the machine know of its jobs and processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from support import PATIENCE_S, SMALL_DATA

#: A package of networks that is not ours; jobs import it by PYTHONPATH.
PARTS = Path(__file__).parents[1] / "launching" / "parts"
#: What has SLURM's jobs fork what they start, see warm.py.
JOBS = Path(__file__).parents[1] / "launching" / "jobs"

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
    "optimizer=sgd_digits",
    "optimizer.lr=0.02",
    "epochs=4",
    "batch_size=32",
    "analysis=[collapse]",
    "evaluate_at=[1,2,3,4]",
    "device=cpu",
]
#: Of a training that is held: ten minutes, which a test ends by what it waits for; a second or two when it is not.
LONG = "epochs=200"
#: The words by which a launcher is chosen, quick enough for a test.
LAUNCHERS = {
    "slurm": ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.poll_s=0.5",
              "hydra.launcher.grace_s=3"],
    "local": ["hydra/launcher=local"],
    "none": [],
}  # fmt: skip
#: What a process of a sweep is called by → what a command line of it contains.
KINDS = {
    "worker": "run-frozen",
    "uploader": "sync --follow",
    "job": "submitit.core._submit",
    "launcher": "ncexp --config-dir",
}


class Project:
    """A folder in which somebody sweeps: choices of their own, a network of their own, outputs/."""

    def __init__(self, folder: Path, cold: bool = False) -> None:
        """cold: SLURM's jobs and what they start import their libraries themselves, and render figures."""
        self.folder = folder
        self._path = os.pathsep.join(map(str, [PARTS] if cold else [PARTS, JOBS]))
        self.outputs = folder / "outputs"
        self.started: list[subprocess.Popen[str]] = []
        self.choice = folder / "choices" / "architecture" / "paced.yaml"
        self.choice.parent.mkdir(parents=True)
        self.choice.write_text(PACED.format(folder=folder))

    def start(self, *arguments: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """`ncexp ARGUMENTS`, not waited for."""
        process = subprocess.Popen(
            [sys.executable, "-m", "ncexp", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": self._path, "OMP_NUM_THREADS": "1"},
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """Leave nothing behind that runs, however the test ended."""
        for process in self.started:
            process.kill()
        for _, number in processes(self.folder):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for manifest in self.folder.glob("*/sweeps/*/manifest.jsonl"):
            jobs = {json.loads(line)["job"] or "local:" for line in manifest.read_text().splitlines()}
            for job in jobs:
                if not job.startswith("local:"):
                    subprocess.run(["scancel", "--quiet", job], capture_output=True, check=False)

    def run(self, *arguments: str) -> tuple[int, str]:
        """`ncexp ARGUMENTS`; exit code and everything it printed."""
        process = self.start(*arguments)
        printed, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, printed

    def sweep_arguments(self, *overrides: str, launcher: str = "slurm", tracking: bool = False) -> list[str]:
        """The arguments of a small sweep."""
        return [
            "--config-dir", "choices", "-m", *SMALL, f"tracking.enabled={str(tracking).lower()}",
            *LAUNCHERS[launcher], *overrides,
        ]  # fmt: skip

    def sweep(self, *overrides: str, **options: Any) -> tuple[int, str]:
        """Carry out a small sweep."""
        return self.run(*self.sweep_arguments(*overrides, **options))

    def succeed(self, *overrides: str, **options: Any) -> str:
        """Carry out a small sweep whose exit code is 0; what it printed."""
        code, printed = self.sweep(*overrides, **options)
        assert code == 0, printed
        return printed

    def begin(self, *overrides: str, runs: int = 1, **options: Any) -> subprocess.Popen[str]:
        """A small sweep that is held and of which so many runs have begun to train."""
        self.hold()
        sweep = self.start(*self.sweep_arguments(*overrides, **options))
        until(lambda: len(list(self.outputs.glob("*/training.jsonl"))) == runs, "the trainings that begin")
        return sweep

    def end(self, sweep: subprocess.Popen[str], hold: bool = False) -> tuple[int, str]:
        """Its exit code and what it printed, once it has ended; hold: as it is."""
        if not hold:
            (self.folder / "hold").unlink()
        printed, _ = sweep.communicate(timeout=PATIENCE_S)
        return sweep.returncode, printed

    def hold(self) -> Path:
        """Make every training slow until the file is removed."""
        path = self.folder / "hold"
        path.touch()
        return path

    def manifest(self, index: int = 0) -> list[dict[str, Any]]:
        """The lines of a sweep's manifest, in order of their numbers."""
        paths = sorted((self.outputs / "sweeps").glob("*/manifest.jsonl"))
        entries = [json.loads(line) for line in paths[index].read_text().splitlines()]
        return [
            {**entry, **{name: str((paths[index].parent / entry[name]).resolve()) for name in ("directory", "run")}}
            for entry in entries
        ]

    def status(self, entry: dict[str, Any]) -> dict[str, Any]:
        """status.json of a run; empty before the first."""
        path = Path(entry["directory"]) / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def states(self) -> list[str | None]:
        return [self.status(entry).get("state") for entry in self.manifest()]

    def wait_for(self, entry: dict[str, Any]) -> None:
        """Until the run has a checkpoint from which it can go on, however it ends."""
        checkpoint = Path(entry["directory"]) / "checkpoints" / "resume.safetensors"
        until(checkpoint.exists, str(checkpoint))


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that must come to pass."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE_S, f"waited in vain for {what}"
        time.sleep(0.2)


def processes(folder: Path) -> list[tuple[str, int]]:
    """(kind, number) of the processes that work in this folder, for whomever."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = process.joinpath("cmdline").read_bytes().decode().split("\0")
            kind = next((kind for kind, word in KINDS.items() if word in " ".join(words)), None)
            if kind and "python" in words[0] and process.joinpath("cwd").readlink() == folder:
                found.append((kind, int(process.name)))
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found


def job_facts(job: str) -> dict[str, str]:
    """What `scontrol show job` prints; empty for a job that SLURM has forgotten."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, check=False)
    return dict(re.findall(r"(\w+)=(\S*)", done.stdout))


def queue(folder: Path | None = None) -> list[str]:
    """The jobs that wait or run; of those that were submitted from `folder`, where it is given."""
    command = ["squeue", "--noheader", "--array", "--format=%i|%Z"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    jobs = [line.partition("|") for line in lines]
    return [job for job, _, submitted_from in jobs if folder is None or submitted_from == str(folder)]
