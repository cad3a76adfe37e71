"""The schedule of a pool, with workers that end as told; and what each of several runs gets of a machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ncexp.interruption import StopRequest
from ncexp.launching import pool
from ncexp.launching.pool import Share, work
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.run_directory import JOB_VARIABLE


class Scripted:
    """A worker whose runs end at once as `ends` says, or, where it says nothing, when they are stopped."""

    ends: dict[int, str | int]
    made: list[Scripted]

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment, self.told, self.end = environment, list[object](), None
        self._always_readable = os.open(os.devnull, os.O_RDONLY)
        self.made.append(self)

    def train(self, configuration: Path, log: Path) -> None:
        self.told.append(int(configuration.stem))
        self.end = self.ends.get(int(configuration.stem))

    def stop(self) -> None:
        self.told.append("stop")
        self.end = "interrupted"

    def poll(self) -> str | int | None:
        return self.end

    def dismiss(self) -> None:
        self.told.append("dismiss")

    def close(self) -> None:
        os.close(self._always_readable)

    def fileno(self) -> int:
        return self._always_readable


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setattr(pool, "Worker", Scripted)
    monkeypatch.setenv(JOB_VARIABLE, "restored after the test")
    Scripted.ends, Scripted.made = {}, []
    return Scripted


def entries(folder: Path, count: int) -> list[Entry]:
    return [Entry(num=num, name="a", key="b", directory=str(folder / str(num)), overrides=[]) for num in range(count)]


def test_a_process_that_died_marks_its_run_and_no_other(tmp_path: Path, workers: type[Scripted]) -> None:
    workers.ends = {0: "completed", 1: -9, 2: 1, 3: "diverged"}
    runs = entries(tmp_path, 4)
    outcomes = work(SweepDirectory(tmp_path), runs, 1, StopRequest(), "job")
    assert outcomes == {0: "completed", 1: "failed", 2: "failed", 3: "diverged"}
    messages = [(entry.run.status() or {}).get("message") for entry in runs]
    assert messages == [
        None,
        "killed by SIGKILL, out of memory, or by hand; the same command goes on from its checkpoint",
        "its process ended with code 1, see its log; the same command goes on from its checkpoint",
        None,
    ]


def test_a_failure_ends_its_worker_and_so_does_the_end_of_the_runs(tmp_path: Path, workers: type[Scripted]) -> None:
    workers.ends = {0: "completed", 1: "failed", 2: "diverged", 3: "completed"}
    work(SweepDirectory(tmp_path), entries(tmp_path, 4), 2, StopRequest(), "job")
    assert [worker.told for worker in workers.made] == [[0, 2, "dismiss"], [1, "dismiss", 3, "dismiss"]]


def test_nothing_begins_after_a_stop_which_each_training_hears_once(
    tmp_path: Path, workers: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()
    workers.ends = {2: "completed"}

    class Stopping(Scripted):
        def train(self, configuration: Path, log: Path) -> None:
            super().train(configuration, log)
            if configuration.stem == "001":
                stop.received.append(15)

    monkeypatch.setattr(pool, "Worker", Stopping)
    outcomes = work(SweepDirectory(tmp_path), entries(tmp_path, 4), 3, stop, "job")
    assert outcomes == {0: "interrupted", 1: "interrupted"}
    assert [worker.told for worker in workers.made] == [[0, "stop"], [1, "stop"], []]


@pytest.mark.parametrize(
    ("named", "at_once", "expected"),
    [
        (None, 3, ["0", "1", "0"]),  # all there are go round
        (None, 1, [None]),  # one run alone may be spread over them
        ("4,7", 3, ["4", "7", "4"]),
        ("", 2, [None, None]),  # none, which the runs inherit
    ],
)
def test_gpus_go_round(
    monkeypatch: pytest.MonkeyPatch, named: str | None, at_once: int, expected: list[str | None]
) -> None:
    monkeypatch.setattr(pool, "glob", lambda pattern: ["/dev/nvidia0", "/dev/nvidia1"])
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    share = Share.of_machine(at_once)
    assert [share.environment(place).get("CUDA_VISIBLE_DEVICES") for place in range(at_once)] == expected


def test_no_gpus_are_named_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "glob", lambda pattern: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "CUDA_VISIBLE_DEVICES" not in Share.of_machine(2).environment(0)
