"""outputs/sweeps/<name>_<hash>/: what was asked for, frozen, and which job trains which run.

    manifest.jsonl      one line per run: num, name, key, directory, overrides, job
    configurations/     the composed configuration of each run, as it was when it was submitted
    code/               the package's source at each submission, the commit and what differed from it
    jobs/               what submitit writes: batch scripts, pickles, the jobs' own logs
    runs/               numbered links to the run directories

The run directories lie in outputs/ as those of single runs do, named without the number: a run is found again by its
key by any later sweep, in which it may have another number.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from ncexp.config import RunConfig, nearest
from ncexp.files import write_atomically
from ncexp.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of a sweep; `job` is the last job that was submitted for it by this sweep."""

    num: int
    name: str
    key: str
    directory: str
    overrides: list[str]
    job: str | None = None

    @property
    def title(self) -> str:
        """``007_digits-resnet-mse_lr0.05_seed0_0123456789``: how people and SLURM call it."""
        return f"{self.num:03d}_{self.name}_{self.key}"

    @property
    def run(self) -> RunDirectory:
        """Where it lies."""
        return RunDirectory(Path(self.directory))


class SweepDirectory:
    """The files of one sweep by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs = path / "jobs"
        self.code = path / "code"
        self._manifest = path / "manifest.jsonl"

    @classmethod
    def of(cls, name: str, configs: Sequence[RunConfig]) -> SweepDirectory:
        """The folder of the sweep that asks for exactly these runs: the same command finds it again."""
        asked = "\n".join(config.directory.name for config in configs)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
        return cls(configs[0].outputs / "sweeps" / f"{name}_{digest}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One submission at a time; the second of two waits, and then finds the runs in the queue."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):
            yield

    def configuration(self, num: int) -> Path:
        """The frozen configuration of run `num`."""
        return self.path / "configurations" / f"{num:03d}.yaml"

    def entries(self) -> list[Entry]:
        """The runs, in order of their numbers; empty before the first submission."""
        if not self._manifest.exists():
            return []
        return [Entry(**json.loads(line)) for line in self._manifest.read_text().splitlines()]

    def write_entries(self, entries: Sequence[Entry]) -> None:
        """Write the manifest and the numbered links."""
        text = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries)
        write_atomically(self._manifest, lambda file: file.write(text.encode()))
        (self.path / "runs").mkdir(exist_ok=True)
        for entry in entries:
            link = self.path / "runs" / entry.title
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(entry.directory, link.parent))

    def record_jobs(self, jobs: dict[int, str]) -> None:
        """Note, in the manifest and beside each run, which job trains it from now on."""
        entries = [replace(entry, job=jobs.get(entry.num, entry.job)) for entry in self.entries()]
        self.write_entries(entries)
        for entry in entries:
            if entry.num in jobs:
                entry.run.set_job(jobs[entry.num])


def sweeps(outputs: Path) -> list[SweepDirectory]:
    """All sweeps under `outputs`, the latest submission last."""
    manifests = sorted((outputs / "sweeps").glob("*/manifest.jsonl"), key=lambda path: path.stat().st_mtime)
    return [SweepDirectory(path.parent) for path in manifests]


def find_sweep(outputs: Path, word: str) -> SweepDirectory:
    """The sweep that `word` means: its folder, its name, the beginning of its name, or ``last``.

    Raises ValueError where there is none, or more than one.
    """
    if (Path(word) / "manifest.jsonl").exists():
        return SweepDirectory(Path(word))
    known = sweeps(outputs)
    if word == "last" and known:
        return known[-1]
    found = [sweep for sweep in known if sweep.path.name == word] or [
        sweep for sweep in known if sweep.path.name.startswith(word)
    ]
    if len(found) != 1:
        names = [sweep.path.name for sweep in found or known]
        raise ValueError(
            f"SWEEP: expected one of the sweeps under {outputs}, got {word!r}. "
            + (nearest(word, names) if names else "There are none.")
        )
    return found[0]
