"""Figures while a run trains: that they come, none of a short run, and that nobody draws for one that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_sweep import write_run

from ncexp.record import RunDirectory
from ncexp.report import LiveFigures, live
from ncexp.report.run import drawn_before

#: A process that trains, and has its figures drawn; it prints the number of the process that draws.
TRAINS = """
import sys, time
from pathlib import Path
from ncexp.record import RunDirectory
from ncexp.record.console import literal_console
from ncexp.report import live
live.FIRST_S = 0.0
figures = live.LiveFigures(RunDirectory(Path(sys.argv[1])), literal_console(stderr=True))
figures.epoch_evaluated()
print(figures._process.pid, flush=True)
time.sleep(600)
"""


def wait_until(is_true: Callable[[], bool]) -> None:
    while not is_true():  # the test's own timeout ends it
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_short_training_is_drawn_at_its_end_alone(tmp_path: Path, console: Console) -> None:
    directory = RunDirectory(write_run(tmp_path))
    with LiveFigures(directory, console) as figures:
        figures.epoch_evaluated()
        assert figures._process is None
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said == f"figures   {directory.figures}: of the epochs so far, drawn anew while it trains\n"


@pytest.mark.slow
def test_figures_are_drawn_again_while_a_run_trains_and_not_after(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FIRST_S", 0.0)
    directory = RunDirectory(write_run(tmp_path))
    with LiveFigures(directory, console) as figures:
        figures.epoch_evaluated()
        process = figures._process
        assert process is not None
        wait_until(lambda: drawn_before(directory) is not None)
        wait_until(lambda: os.getpriority(os.PRIO_PROCESS, process.pid) == 19)
        journal = directory.journals()[0].path
        os.utime(journal, ns=(0, journal.stat().st_mtime_ns + 1))  # a further epoch
        assert drawn_before(directory) is None
        wait_until(lambda: drawn_before(directory) is not None)
        assert not directory.path_fit.exists()
        figures.epoch_evaluated()
        assert figures._process is process
    assert not lives(process.pid)


@pytest.mark.slow
def test_nobody_draws_for_a_run_that_was_killed(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    with subprocess.Popen([sys.executable, "-c", TRAINS, str(path)], stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        pid = int(training.stdout.readline())
        wait_until(lambda: "draw-live" in Path(f"/proc/{pid}/cmdline").read_text())
        wait_until(lambda: drawn_before(RunDirectory(path)) is not None)
        training.send_signal(signal.SIGKILL)
        wait_until(lambda: not lives(pid))
