"""MLflow brought up to the journals, once or as they grow, whatever happened to the runs or to the server meanwhile."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncexp.config.measurement import SIMULATIONS
from ncexp.record import DamagedFile, RunDirectory, State, counted, find_runs, read_run, write_text
from ncexp.record.text import say
from ncexp.tracking.address import check_uri, experiment_name, outputs_of, refuse_unnamed, tracking_uri
from ncexp.tracking.store import Unreachable, describe, import_client
from ncexp.tracking.upload import send

#: Of a run's directory: why the last transfer failed, its first line for people; gone once one succeeds.
FAILURE = "mlflow_failure.txt"
#: A run that is followed is sent at most once in this time: the runs of a sweep share one store.
PACE_S = 2.0
#: The signal by which a process that works on runs has its follower send the rest and end. Nobody else uses it.
LAST = signal.SIGRTMIN


def sync_runs(
    paths: Iterable[Path],
    uri: str | None = None,
    report: Callable[[str], object] = say,
    named: Collection[str | None] = (),
) -> Counter[str]:
    """Send what MLflow lacks of the runs and simulations among and under `paths`; returns how many had which outcome.

    uri: of another store than the one each run was configured with; named: what a run's own configuration may name as
    its store, see `refuse_unnamed`; report: gets a line for each run that was sent or could not be. "not sent" counts
    those that need a repeat. A server that hangs costs 15 s, once.
    Raises ValueError for a folder without any, and for a URI that none can have.
    """
    check_uri(uri)
    silent: set[str] = set()
    return Counter(_send(path, uri, named, silent, report) for path in counted(_find(paths), "runs"))


def _find(folders: Iterable[Path]) -> list[Path]:
    """As `find_runs`, and simulations, which lie a level deeper."""
    found: dict[Path, None] = {}
    for folder in folders:
        levels = (folder.absolute().glob(f"{level}config.yaml") for level in ("", "*/", "*/*/"))
        inside = (path.parent for level in levels for path in level)
        simulations = sorted(path for path in inside if path.parent.name == SIMULATIONS)
        try:
            runs = find_runs([folder])
        except ValueError:
            if not simulations:
                raise
            runs = []
        found.update(dict.fromkeys([*runs, *simulations]))
    return list(found)


def _send(
    path: Path, uri: str | None, named: Collection[str | None], silent: set[str], report: Callable[[str], object]
) -> str:
    """One run; returns what was done, as a word for the count. silent: gets a store that does not respond, and is not
    tried again.
    """
    store = ""
    try:
        raw = read_run(path).raw
        if "tracking" not in raw:  # of a file that is cut
            raise DamagedFile(f"{path / 'config.yaml'}: expected the entry tracking, got none. Set it aside.")
        if not raw["tracking"]["enabled"] and uri is None:
            return "not tracked (tracking.enabled=false; --uri STORE sends them)"
        store = uri or tracking_uri(raw["tracking"]["uri"], outputs_of(path))
        if uri is None:
            refuse_unnamed(store, outputs_of(path), named)
        if store in silent:
            return "not sent"
        outcome = send(path, store, experiment_name(raw))
    except Exception as error:
        report(f"{path.name}: not sent: {describe(error)}")
        if _is_of_the_connection(error):
            silent.add(store)
        with suppress(OSError):  # of a full disk, or a folder that takes no files or was moved
            write_text(path.resolve(strict=True) / FAILURE, f"{describe(error)}\n\n{traceback.format_exc()}")
        return "not sent"
    with suppress(OSError):
        (path / FAILURE).unlink(missing_ok=True)
    if outcome == "sent":
        report(f"{path.name}: sent")
    return outcome if outcome != "deleted" else "left alone (deleted in MLflow)"


def _is_of_the_connection(error: BaseException | None) -> bool:
    """Whether the next run would fail alike: the server is not there, or did not respond to a call."""
    from requests import RequestException  # MLflow's own way to its servers

    while error is not None:
        if isinstance(error, Unreachable | RequestException):
            return True
        error = error.__cause__ or error.__context__
    return False


def follow_runs(
    paths: Iterable[Path], uri: str | None, parent: int | None = None, report: Callable[[str], object] = say
) -> Counter[str]:
    """As `sync_runs`, again whenever files of a run have changed, at most once in PACE_S.

    parent: the process that started this one to work on the directories `paths`, which may not be there yet: until it
    sends LAST, or has ended. None: until none of the runs is trained. Returns how many had which outcome at last.
    """
    os.nice(5)
    with suppress(Exception):  # the first transfer meets it again, and says so
        import_client()
    runs = list(paths) if parent else _find(paths)
    seen: dict[Path, Any] = {}
    outcomes: dict[Path, str] = {}
    is_last = False
    while not is_last:
        is_last, silent = _is_over(runs, parent), set[str]()
        there = [path for path in runs if (path / "config.yaml").exists()]
        files = {path: _files(path) for path in there if is_last or path in seen or _is_running(path)}
        again = [path for path in files if is_last and outcomes.get(path) == "not sent"]
        changed = [path for path in files if files[path] != seen.get(path) or path in again]
        seen |= files
        outcomes |= {path: _send(path, uri, (), silent, report) for path in changed}
        # A store that has failed just when the end came is not waited for once more.
        is_last |= bool(silent) and LAST in signal.sigpending()
    return Counter(outcomes.values())


def _is_over(paths: Iterable[Path], parent: int | None) -> bool:
    """Wait until the next transfer; returns whether it is the last one."""
    if parent is None:
        time.sleep(PACE_S)
        return not any(map(_is_running, paths))
    if signal.sigtimedwait([LAST], PACE_S):
        return True
    if os.getppid() == parent:
        return False
    until = time.monotonic() + PACE_S  # the system releases the locks of a process that was killed within an instant
    while any(map(_is_running, paths)) and time.monotonic() < until:
        time.sleep(0.05)
    return True


def _is_running(path: Path) -> bool:
    try:
        return RunDirectory(path).actual_state() is State.RUNNING
    except DamagedFile:  # the last transfer meets it again, and says so
        return False


def _files(path: Path) -> Any:
    """What changes as soon as a file of the record does, or the run is trained no more."""
    files = (file for pattern in ("[!.]*", "measurements/*", "figures/*") for file in path.glob(pattern))
    found = [(file, file.stat()) for file in files if not file.name.startswith("mlflow") and file.is_file()]
    return [(file, stat.st_mtime_ns, stat.st_size) for file, stat in found], _is_running(path)
