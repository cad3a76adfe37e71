"""The follower's own side of the pipe; started by `ncexp.tracking.follower`, not by people."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from ncexp.run_directory import RunDirectory
from ncexp.tracking.follower import FAILURE, Lines
from ncexp.tracking.mirror import Mirror
from ncexp.tracking.store import import_client

#: At most one transfer of a running training in this time: a sweep's processes share one store.
PACE_S = 2.0
#: Without news, how long after a failure to try again.
RETRY_S = 30.0


class News:
    """What the parent says, a line at a time."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._told: deque[dict[str, Any]] = deque()

    def next(self, seconds: float | None) -> dict[str, Any] | None:
        """The next line; None when none came in time. After the pipe closed: an end that nobody announced."""
        if not self._told:
            self._told.extend(self._lines.wait(seconds))
        if self._told:
            return self._told.popleft()
        return {"killed": True} if self._lines.closed else None


def serve(news: News) -> None:
    """Follow one run after the other until the parent is gone."""
    while (line := news.next(None)) is None or "killed" not in line:
        if line and "begin" in line:
            _follow(Path(line["begin"]), line["uri"], line["experiment"], news)


def _follow(path: Path, uri: str, experiment: str, news: News) -> None:
    """Send until the run ends, and then the rest."""
    mirror = Mirror(path, uri, experiment)
    epoch, pending, line = 0, True, None  # the run appears when it begins
    earliest = 0.0
    while not (line and ("end" in line or "killed" in line)):
        if pending and time.monotonic() >= earliest:
            failed = not _attempt(mirror, path, epoch)
            pending = failed
            earliest = time.monotonic() + (RETRY_S if failed else PACE_S)
        line = news.next(max(0.0, earliest - time.monotonic()) if pending else None)
        if line and "epoch" in line:
            epoch, pending = line["epoch"], True
    if "killed" in line:
        _await_end(path)
    _attempt(mirror, path, None)
    if "end" in line:
        print(json.dumps({"done": str(path)}), flush=True)


def _await_end(path: Path) -> None:
    """The system closes a killed run's pipe and releases its lock within an instant, in either order."""
    until = time.monotonic() + PACE_S
    while RunDirectory(path).actual_state() == "running" and time.monotonic() < until:
        time.sleep(0.05)


def _attempt(mirror: Mirror, path: Path, through: int | None) -> bool:
    """One transfer; a failure is written down beside the journal, its first line for people."""
    try:
        mirror.send(through)
    except Exception as error:
        lines = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n\n{traceback.format_exc()}"
        (path / FAILURE).write_text(lines)
        return False
    (path / FAILURE).unlink(missing_ok=True)
    return True


if __name__ == "__main__":
    os.nice(5)
    # The parent decides when this ends, by closing the pipe; what stops it first lets it say its last word.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    with suppress(Exception):  # the first transfer meets it again, and writes it down
        import_client()
    serve(News(Lines(sys.stdin.buffer)))
