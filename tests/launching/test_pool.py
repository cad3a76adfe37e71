"""The schedule of a pool, with workers that end as scripted; and what each of several runs gets of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from scripted_workers import Scripted, entries

from ncexp.launching import pool
from ncexp.launching.pool import shares, work
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import State
from ncexp.training import StopRequest


def test_a_process_that_died_marks_its_run_and_no_other(
    tmp_path: Path, workers: type[Scripted], console: Console
) -> None:
    workers.ends = {0: State.COMPLETED, 1: -9, 2: 1, 3: State.DIVERGED}
    runs = entries(tmp_path, 4)
    states = work(SweepDirectory(tmp_path), runs, 1, StopRequest(), "job", console)
    assert states == {0: "completed", 1: "failed", 2: "failed", 3: "diverged"}
    messages = [(entry.task.status() or {}).get("message") for entry in runs]
    assert messages == [
        None,
        "killed by SIGKILL, out of memory, or by hand; the same command goes on from its checkpoint",
        "its process ended with code 1, see its log; the same command goes on from its checkpoint",
        None,
    ]


def test_a_failure_ends_its_worker_and_so_does_the_end_of_the_runs(
    tmp_path: Path, workers: type[Scripted], console: Console
) -> None:
    workers.ends = {0: State.COMPLETED, 1: State.FAILED, 2: State.DIVERGED, 3: State.COMPLETED}
    work(SweepDirectory(tmp_path), entries(tmp_path, 4), 2, StopRequest(), "job", console)
    assert [worker.calls for worker in workers.made] == [[0, 2, "dismiss"], [1, "dismiss", 3, "dismiss"]]


def test_nothing_begins_after_a_stop_which_each_task_gets_once(
    tmp_path: Path, workers: type[Scripted], console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()
    workers.ends = {2: State.COMPLETED}

    class Stopping(Scripted):
        def begin(self, configuration: Path, log: Path) -> None:
            super().begin(configuration, log)
            if configuration.stem == "001":
                stop.received.append(15)

    monkeypatch.setattr(pool, "Worker", Stopping)
    states = work(SweepDirectory(tmp_path), entries(tmp_path, 4), 3, stop, "job", console)
    assert states == {0: "interrupted", 1: "interrupted"}
    assert [worker.calls for worker in workers.made] == [[0, "stop"], [1, "stop"], []]


@pytest.mark.parametrize(
    ("named", "there", "at_once", "expected"),
    [
        (None, 2, 3, ["0", "1", "0"]),  # all there are go round
        (None, 2, 1, [None]),  # one run alone may be spread over them
        (None, 0, 2, [None, None]),
        ("4,7", 2, 3, ["4", "7", "4"]),
        ("", 2, 2, [None, None]),  # none, which the runs inherit
    ],
)
def test_gpus_go_round(
    monkeypatch: pytest.MonkeyPatch, named: str | None, there: int, at_once: int, expected: list[str | None]
) -> None:
    monkeypatch.setattr(pool, "glob", lambda pattern: ["/dev/nvidia0", "/dev/nvidia1"][:there])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert [share.get("CUDA_VISIBLE_DEVICES") for share in shares(at_once)] == expected
