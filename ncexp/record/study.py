"""The study of a search, Optuna's journal file in the folder of its sweep.

Only searches import this file, and with it Optuna.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ncexp.record.files import LARGEST_FILE, DamagedFile, open_file
from ncexp.record.objective import value_of
from ncexp.record.saved_run import SavedRun

PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
}
#: How long a process waits for another one that writes a line, in seconds.
PATIENCE_S = 60.0


class _Journal(JournalFileBackend):
    """Optuna's file, with a lock that the system releases however its holder ends, and without half lines.

    Optuna's own lock is a file that a killed process leaves behind: the next one waits 30 s for it, in version 4.0
    without end. And what Optuna appends to half a line, as a full disk leaves one, makes a line that is no JSON, with
    which the whole study can no longer be read.
    """

    def __init__(self, path: Path) -> None:
        self._own_lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=PATIENCE_S)
        super().__init__(str(path), lock_obj=self._own_lock)  # type: ignore[arg-type]  # it has acquire and release
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines, on the disk before this returns."""
        with self._own_lock:
            with self._path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                if size and file.read() != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            super().append_logs(logs)


def open_storage(path: Path) -> JournalStorage:
    """The journal file, made where there is none. Raises DamagedFile for one that Optuna cannot read."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what there is to say, a search says itself
    with suppress(FileNotFoundError), open_file(path) as file:  # a pipe would be waited for
        if (size := os.fstat(file.fileno()).st_size) > LARGEST_FILE:
            raise DamagedFile(f"{path}: expected at most {LARGEST_FILE} bytes, got {size}. Set it aside.")
    with _readable(path):
        return JournalStorage(_Journal(path))


def load_study(path: Path, pruner: str | None = None) -> optuna.Study:
    """The study of a search that is there. Raises DamagedFile where it is not, or cannot be read."""
    if not path.exists():
        raise DamagedFile(f"{path}: expected the journal of a search, got none. The command of the search makes it.")
    storage, ender = open_storage(path), None if pruner is None else PRUNERS[pruner]()
    with _readable(path):  # the sampler suggests nothing here
        return optuna.load_study(
            study_name=None, storage=storage, sampler=optuna.samplers.RandomSampler(), pruner=ender
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A journal is carried out line by line: with others than its own Optuna raises whatever its code runs into."""
    try:
        yield
    except Exception as error:
        raise DamagedFile(
            f"{path}: expected a journal of Optuna, got a damaged file ({type(error).__name__}: {error}). Set it aside."
        ) from error


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    """A trial that was asked for before, perhaps by another process."""
    return optuna.Trial(study, study.trials[number]._trial_id)


def report_values(trial: optuna.Trial, run: SavedRun, objective: str, epochs: Collection[int]) -> None:
    """Tell the study the objective of the run as it was after each of these evaluated epochs, unless it knows it."""
    known = trial.storage.get_trial(trial._trial_id).intermediate_values
    for count, record in enumerate(run.records, start=1):
        epoch = int(record["epoch"])
        if epoch in epochs and epoch not in known:
            trained = [one for one in run.training if one["epoch"] <= epoch]
            trial.report(value_of(replace(run, records=run.records[:count], training=trained), objective), epoch)
