"""The process that brings MLflow up to runs while this one works on them, `ncexp sync --follow`, and what came of it.

No training step waits for a store, a network or Python's lock, and MLflow, which takes seconds to import, is imported
once for all runs of a sweep, while this process imports torch.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from ncexp.record import DamagedFile, RunDirectory, read_config
from ncexp.tracking.address import (
    NOT_FROM_JOBS,
    SQLITE,
    UI_ADDRESS,
    URI_VARIABLE,
    may_write,
    outputs_of,
    sync_command,
    tracking_uri,
)
from ncexp.tracking.memory import page_of
from ncexp.tracking.sync import FAILURE, LAST

#: The variable that says that somebody follows the runs that this process works on.
FOLLOWED = "NCEXP_FOLLOWED"
#: Signals that are for the runs, which then end. The follower sends their rest, so none of them may end it first.
OF_RUNS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: How long the rest may take, of a file on a busy machine. A server that does not respond costs the follower 15 s.
PATIENCE_S = 600.0


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
