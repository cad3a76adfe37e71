"""outputs/sweeps/<name>_<hash>/: what was asked for, frozen, and which job works on which task.

    manifest.jsonl      one line per task: num, name, key, directory, run, overrides, job; paths from this folder on
    configurations/     the composed configuration of each task, as it was when it was submitted
    code/               the package's source at each submission, the commit and what differed from it
    jobs/               what submitit writes: batch scripts, pickles, the jobs' own logs
    submissions/        submissions whose jobs are not known yet
    runs/               numbered links to the run directories that are trained or measured

The run directories lie in outputs/ as those of single runs do, named without the number: a run is found again by its
key by any later sweep, in which it may have another number. The directory of a measuring lies in that of its run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from ncexp.config import nearest
from ncexp.launching.task import Task
from ncexp.record import TaskDirectory, acquire, remove_unfinished, write_text
from ncexp.record.contents import read_manifest
from ncexp.record.files import open_file
from ncexp.record.provenance import PACKAGE, git

#: Bytes: more than anybody reads, less than a log that was filled up.
LONGEST_END = 2**22


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One task of a sweep. directory: where it keeps its state and log; run: the run directory that it trains or
    measures; job: the last job that was submitted for it by this sweep.
    """

    num: int
    name: str
    key: str
    directory: str
    run: str
    overrides: list[str]
    job: str | None = None

    @property
    def title(self) -> str:
        """``007_digits-resnet-mse_lr0.05_seed0_0123456789``: how people and SLURM call it."""
        return f"{self.num:03d}_{self.name}_{self.key}"

    @property
    def task(self) -> TaskDirectory:
        """Its state, log, job and lock."""
        return TaskDirectory(Path(self.directory))


def _moved(entry: Entry, move: Callable[[str], str]) -> Entry:
    return replace(entry, directory=move(entry.directory), run=move(entry.run))


class SweepDirectory:
    """The files of one sweep by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs = path / "jobs"
        self.submissions = path / "submissions"
        self.code = path / "code"
        self._manifest = path / "manifest.jsonl"

    @classmethod
    def of(cls, name: str, tasks: Sequence[Task]) -> SweepDirectory:
        """The folder of the sweep that asks for exactly these tasks: the same command finds it again."""
        asked = "\n".join(task.directory.name for task in tasks)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
        return cls(tasks[0].outputs / "sweeps" / f"{name}_{digest}")

    @property
    def digest(self) -> str:
        """The hash in its name, of the tasks that it asks for."""
        return self.path.name.rpartition("_")[2]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One submission at a time; the second of two waits, and then finds the runs in the queue."""
        lock = FileLock(self.path / ".lock")
        acquire(lock)
        try:
            for folder in (self.path, self.path / "configurations", self.submissions):
                remove_unfinished(folder)
            yield
        finally:
            lock.release()

    def configuration(self, num: int) -> Path:
        """The frozen configuration of task `num`."""
        return self.path / "configurations" / f"{num:03d}.yaml"

    def entries(self) -> list[Entry]:
        """The tasks, in order of their numbers; empty before the first submission. Raises DamagedFile."""
        found = [Entry(**line) for line in read_manifest(self._manifest)]
        return [_moved(entry, lambda path: os.path.normpath(self.path.absolute() / path)) for entry in found]

    def write_entries(self, entries: Sequence[Entry]) -> None:
        """Write the manifest and the numbered links; paths relative, so that the folder may be moved with its runs."""
        relative = [_moved(entry, lambda path: os.path.relpath(path, self.path.absolute())) for entry in entries]
        write_text(self._manifest, "".join(json.dumps(asdict(entry)) + "\n" for entry in relative))
        (self.path / "runs").mkdir(exist_ok=True)
        for entry in entries:
            link = self.path / "runs" / entry.title
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(entry.run, link.parent))

    def record_jobs(self, jobs: dict[int, str], submission: str | None = None) -> None:
        """Note, in the manifest and in each task's directory, which job works on it from now on.

        submission: the name of a cluster's jobs, see `slurm.QueuedJob`.
        """
        entries = [replace(entry, job=jobs.get(entry.num, entry.job)) for entry in self.entries()]
        self.write_entries(entries)
        for entry in entries:
            if entry.num in jobs:
                entry.task.set_job(jobs[entry.num], submission)

    def log_of(self, entry: Entry) -> Path | None:
        """The task's own log, or, where nothing stands in it, its job's; None where neither was written."""
        paths = [path for path in (entry.task.log, self.job_log(entry)) if path.is_file()]
        return next((path for path in paths if path.stat().st_size), paths[0] if paths else None)

    def job_log(self, entry: Entry) -> Path:
        """Where the job's own words are, and SLURM's about its end."""
        return self.jobs / f"{entry.job}_0_log.out"

    def freeze_code(self) -> Path:
        """Copy the package's source here, once per state of it, for jobs to import it from the folder returned.

        The commit, and what differed from it, of the clones, if any, that package and working folder lie in is kept.
        """
        sources = sorted(PACKAGE.rglob("*.py"))
        digest = hashlib.sha256()
        for path in sources:
            digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
        copy = self.code / digest.hexdigest()[:10]
        if copy.exists():
            return copy
        for left in self.code.glob(".*"):  # of a command that was killed: this one holds the sweep's lock
            shutil.rmtree(left)
        unfinished = copy.with_name(f".{copy.name}.{os.getpid()}")
        for path in sources:
            target = unfinished / "ncexp" / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for clone in {git(folder, "rev-parse", "--show-toplevel").strip() for folder in (PACKAGE, Path.cwd())} - {""}:
            note = unfinished / f"{Path(clone).name}.commit"
            note.write_text(git(Path(clone), "log", "-1", "--format=%H %cI %s"), encoding="utf-8")
            note.with_suffix(".diff").write_text(git(Path(clone), "diff", "--binary", "HEAD"), encoding="utf-8")
        unfinished.rename(copy)
        return copy


def environment(code: Path) -> dict[str, str]:
    """The variables under which Python imports the frozen package first, and then what the submitter could import."""
    here = [os.getcwd()] if sys.path[0] in ("", os.getcwd()) else []
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [str(code), *here, *(place for place in inherited if place and Path(place).parent != code.parent)]
    return {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONSAFEPATH": "1",  # or `python -m` would put the working folder, a clone perhaps, before the copy
    }


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log, of its last LONGEST_END bytes. Raises DamagedFile for what is no file."""
    with open_file(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_END))
        return file.read(LONGEST_END).decode(errors="replace").splitlines()[-count:]


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
            + (nearest(word, names) if names else "There are none. `ncexp runs` lists the runs.")
        )
    return found[0]
