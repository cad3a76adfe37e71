"""MLflow brought up to the journals, once or as they grow, whatever happened to the runs or to the server meanwhile.

While a process works on runs, `follow` has another one do so, `ncexp sync --follow`. So no training step waits for a
store, a network or Python's lock; and MLflow, which takes seconds to import, is imported once for all runs of a sweep,
while this process imports torch.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from ncexp.record import DamagedFile, RunDirectory, State, counted, find_runs, read_config, read_run, write_text
from ncexp.record.text import say
from ncexp.tracking.address import (
    NOT_FROM_JOBS,
    SQLITE,
    UI_ADDRESS,
    URI_VARIABLE,
    check_uri,
    experiment_name,
    may_write,
    outputs_of,
    refuse_unnamed,
    sync_command,
    tracking_uri,
)
from ncexp.tracking.store import Unreachable, describe, import_client
from ncexp.tracking.upload import page_of, send

#: Of a run's directory: why the last transfer failed, its first line for people; gone once one succeeds.
FAILURE = "mlflow_failure.txt"
#: A run that is followed is sent at most once in this time: the runs of a sweep share one store.
PACE_S = 2.0
#: The signal by which a process that works on runs has its follower send the rest and end. Nobody else uses it.
LAST = signal.SIGRTMIN
#: The variable that says that somebody follows the runs that this process works on.
FOLLOWED = "NCEXP_FOLLOWED"
#: Signals that are for the runs, which then end. The follower sends their rest, so none of them may end it first.
OF_RUNS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: How long the rest may take, of a file on a busy machine. A server that does not respond costs the follower 15 s.
PATIENCE_S = 600.0


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
    return Counter(
        _send(path, uri, named, silent, report) for path in counted(find_runs(paths, simulations=True), "runs")
    )


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
    runs = list(paths) if parent else find_runs(paths, simulations=True)
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
    """What changes as soon as a file of the run does, or the run is trained no more."""
    files = (file for pattern in ("[!.]*", "measurements/*", "figures/*") for file in path.glob(pattern))
    found = [(file, file.stat()) for file in files if not file.name.startswith("mlflow") and file.is_file()]
    return [(file, stat.st_mtime_ns, stat.st_size) for file, stat in found], _is_running(path)


@contextmanager
def follow(raw: Mapping[str, Any], runs: Iterable[Path], console: Console) -> Iterator[None]:
    """Have MLflow brought up to `runs` during the body; then have the rest sent, and print where it is, or why not.

    raw: the configuration of one of them, as all have the same store; runs: listed once the follower has started, so
    that a generator may take its time. Within another `follow` of this process, or of one that started it, only the
    page of a run is printed.
    """
    tracking = raw.get("tracking", {"enabled": True})  # of a run that is measured, its own configuration has the store
    if not isinstance(tracking, Mapping) or tracking.get("enabled") is not True:
        yield  # not tracked; or not valid, which is found out later
        return
    is_within, uri = FOLLOWED in os.environ, tracking.get("uri")
    is_left = "tracking" in raw and not may_write(uri or SQLITE)
    process = None if is_within or is_left else _start(uri)
    listed: list[Path] = []
    try:
        listed += runs
        if process is not None:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as names:  # one that has ended is found to have at the end
                names.write("".join(f"{run.absolute()}\n" for run in listed))
        os.environ[FOLLOWED] = "1"
        yield
    finally:
        if not is_within:
            os.environ.pop(FOLLOWED, None)
        begun = [run for run in listed if (run / "config.yaml").exists()]
        failure = NOT_FROM_JOBS if is_left and not is_within else None
        if process is not None:
            failure = _finish(process, begun)
        if begun:
            _print(begun, failure, console)


def _start(uri: str | None) -> subprocess.Popen[str]:
    """The follower, which imports MLflow, and then reads which runs there are."""
    command = [sys.executable, "-m", "ncexp", "sync", "--follow", "-", "--parent", str(os.getpid())]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*OF_RUNS, LAST])  # which the follower inherits
    try:
        # Ctrl-C is for the process group of the run. No session of its own: Linux may share the processor among
        # sessions first, and low priority would count for nothing.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            process_group=0,
            env={**os.environ, **({URI_VARIABLE: uri} if isinstance(uri, str) else {})},  # a store that a person names
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _finish(process: subprocess.Popen[str], begun: Sequence[Path]) -> str | None:
    """Have the rest sent; returns None once it is, or why it is not."""
    if not begun:
        process.kill()
        process.communicate()
        return None
    process.send_signal(LAST)
    try:
        code = process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return f"it was not through within {PATIENCE_S:.0f} s, and goes on"
    failures = [run / FAILURE for run in begun if (run / FAILURE).exists()]
    if code == 1 and failures:
        return failures[0].read_text(encoding="utf-8").splitlines()[0]
    return f"the process that uploads ended with code {code}" if code else None


def _print(begun: Sequence[Path], failure: str | None, console: Console) -> None:
    """Where MLflow has a run, or why it lacks something of one or several, and what to do."""
    outputs = outputs_of(begun[0])
    try:
        uri = tracking_uri(read_config(begun[0] / "config.yaml")["tracking"]["uri"], outputs)
    except (DamagedFile, KeyError):
        uri = tracking_uri(None, outputs)
    page = page_of(RunDirectory(begun[0]), uri) if len(begun) == 1 else None
    if failure is not None:
        sync = sync_command(uri, begun)
        text = f"not up to date: {failure.rstrip('.')}. The journals have it all; `{sync}` uploads it then."
    elif page is None:
        return
    elif uri.startswith("http"):
        text = f"{uri.rstrip('/')}/{page}"
    else:
        text = f"{UI_ADDRESS}/{page}   # while `ncexp ui {shlex.quote(str(outputs))}` runs"
    console.print(f"MLflow    {text}", soft_wrap=True, markup=False)
