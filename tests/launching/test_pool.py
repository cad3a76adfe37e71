"""The schedule of a pool, with workers that end as scripted; and what each of several runs gets of a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from scripted_workers import Scripted, entries

from ncexp.launching import pool
from ncexp.launching.pool import shares, work
from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import State
from ncexp.training import StopRequest

COMPLETED, FAILED, DIVERGED = State.COMPLETED, State.FAILED, State.DIVERGED


@pytest.fixture
def carry_out(
    tmp_path: Path, workers: type[Scripted], console: Console, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """carry_out(ends, at_once) → how the runs ended, and what was printed; each question to the clock takes it 10 s."""
    now = iter(range(0, 1000, 10))
    clock = SimpleNamespace(monotonic=lambda: float(next(now)), strftime=lambda form: "12:00:00")
    monkeypatch.setattr(pool, "time", clock)

    def call(
        ends: dict[int, State | int], at_once: int, count: int | None = None, stop: Any = lambda: False
    ) -> tuple[dict[int, State], list[str]]:
        workers.ends = ends
        runs = entries(tmp_path, count or len(ends))
        states = work(SweepDirectory(tmp_path), runs, at_once, stop, "local:job", console)
        return states, console.file.getvalue().splitlines()  # type: ignore[attr-defined]

    return call


def test_local_sweep_says_what_begins_what_ends_and_the_time_left(carry_out: Callable[..., Any]) -> None:
    _, printed = carry_out({0: COMPLETED, 1: FAILED, 2: COMPLETED}, 1)
    assert printed == [
        "12:00:00  run 1 of 3 begins      000_a_0",
        "12:00:00  1 of 3 done, 0:20 left: completed  000_a_0",
        "12:00:00  run 2 of 3 begins      001_a_1",
        "12:00:00  2 of 3 done, 0:10 left: failed  001_a_1",
        "12:00:00  run 3 of 3 begins      002_a_2",
        "12:00:00  3 of 3 done: completed  002_a_2",
    ]


def test_local_sweep_says_at_once_that_it_stops(carry_out: Callable[..., Any]) -> None:
    stops = iter([False, False, False, False, True, True])
    _, (_, _, stopping, *ended) = carry_out({}, 2, count=3, stop=lambda: next(stops, True))
    assert stopping == "12:00:00  stopping: 2 runs save themselves, 1 do not begin; Ctrl-C again ends them at once"
    assert [line.split()[-2] for line in ended] == ["interrupted"] * 2


def test_a_process_that_died_marks_its_run_and_no_other(carry_out: Callable[..., Any], tmp_path: Path) -> None:
    states, _ = carry_out({0: COMPLETED, 1: -9, 2: 1, 3: DIVERGED}, 1)
    assert states == {0: "completed", 1: "failed", 2: "failed", 3: "diverged"}
    assert [entry.task.noted().get("message") for entry in entries(tmp_path, 4)] == [
        None,
        "killed by SIGKILL, out of memory, or by hand; the same command goes on from its checkpoint",
        "its process ended with code 1, see its log; the same command goes on from its checkpoint",
        None,
    ]


def test_a_failure_ends_its_worker_and_so_does_the_end_of_the_runs(
    carry_out: Callable[..., Any], workers: type[Scripted]
) -> None:
    carry_out({0: COMPLETED, 1: FAILED, 2: DIVERGED, 3: COMPLETED}, 2)
    assert [worker.calls for worker in workers.made] == [[0, 2, "dismiss"], [1, "dismiss", 3, "dismiss"]]


def test_nothing_begins_after_a_stop_which_each_task_gets_once(
    carry_out: Callable[..., Any], workers: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()

    class Stopping(Scripted):
        def begin(self, configuration: Path, log: Path) -> None:
            super().begin(configuration, log)
            if configuration.stem == "001":
                stop.received.append(15)

    monkeypatch.setattr(pool, "Worker", Stopping)
    states, _ = carry_out({2: COMPLETED}, 3, count=4, stop=stop)
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
