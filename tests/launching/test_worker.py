"""A process that works on one task after another: each as if it were alone, whatever became of the one before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from support import PATIENCE_S, Compose, journals
from sweeps import PACED, PARTS, until

from ncexp.config import check
from ncexp.launching.worker import Worker
from ncexp.record import RunDirectory, State

pytestmark = pytest.mark.slow
#: A frozen configuration and where its run lies.
Frozen = tuple[Path, RunDirectory]


@pytest.fixture
def freeze(composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Frozen]:
    """freeze("talk", "seed=2") → a run of the network that behaves so; freeze(None, ...) → one of an ordinary one."""
    monkeypatch.syspath_prepend(PARTS)

    def build(behaviour: str | None, *overrides: str) -> Frozen:
        raw = composed("tracking.enabled=false", "device=cpu", *overrides)
        if behaviour:
            raw["architecture"] = {**yaml.safe_load(PACED.format(folder=tmp_path)), "behaviour": behaviour}
        directory = RunDirectory(check(raw).directory)
        directory.path.mkdir(parents=True, exist_ok=True)
        path = tmp_path / f"{directory.path.parent.name}_{directory.path.name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path, directory

    return build


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker({"PYTHONPATH": str(PARTS), "OMP_NUM_THREADS": "1"})
    yield worker
    worker.close()


def end_of(worker: Worker) -> State | int:
    """What becomes of the task that it works on."""
    began = time.monotonic()
    while (end := worker.poll()) is None:
        assert time.monotonic() - began < PATIENCE_S, "waited in vain for the end of the run"
        time.sleep(0.05)
    return end


def train(worker: Worker, run: Frozen) -> State | int:
    """Train to the end; returns what became of it."""
    configuration, directory = run
    worker.begin(configuration, directory.log)
    return end_of(worker)


def pid(run: Frozen) -> int:
    return int((run[1].status() or {})["pid"])


def test_run_after_others_has_the_journal_of_a_run_in_a_fresh_process(
    worker: Worker, freeze: Callable[..., Frozen], outputs: Path
) -> None:
    others = [
        freeze(None, "loss=cross_entropy", "optimizer=adamw", "seed=5", "batch_size=20"),
        freeze("diverge", "optimizer.lr=0.1"),
    ]
    run = freeze(None, "seed=3")
    assert [train(worker, other) for other in (*others, run)] == ["completed", "diverged", "completed"]
    worker.dismiss()
    fresh = freeze(None, "seed=3", f"outputs={outputs.parent / 'fresh'}")
    assert train(worker, fresh) == "completed"
    assert pid(others[0]) == pid(others[1]) == pid(run) != pid(fresh)
    written = journals(run[1].path)
    assert [content.count(b"\n") for content in written.values()] == [6, 4, 4, 4, 4, 4]
    assert written == journals(fresh[1].path)


def test_each_log_has_what_its_run_printed_by_whatever_means(worker: Worker, freeze: Callable[..., Frozen]) -> None:
    runs = [freeze("talk", f"seed={seed}") for seed in (1, 2)]
    for number, run in enumerate(runs):
        assert train(worker, run) == "completed"
        log = run[1].log.read_text()
        assert log.count("UserWarning: a warning") == 1, "a run that comes later warns as well"
        for speaker in ("Python", "C", "a child"):
            assert log.count(f"{speaker} says seed {number + 1}") == 1, log
    assert pid(runs[0]) == pid(runs[1])
    assert "seed 2" not in runs[0][1].log.read_text()


def test_stop_is_for_the_run_that_was_handed_over_or_else_for_the_next(
    worker: Worker, freeze: Callable[..., Frozen]
) -> None:
    first, second, third = (freeze("calm", f"seed={seed}") for seed in (1, 2, 3))
    worker.begin(first[0], first[1].log)
    worker.stop()  # Python has hardly begun, and none of our code
    assert end_of(worker) == "interrupted"
    assert train(worker, second) == "completed"
    os.kill(pid(second), signal.SIGTERM)  # it has nothing to do now
    assert train(worker, third) == "interrupted"
    assert "stopped in epoch 1 after step 1;" in (third[1].status() or {})["message"]
    assert train(worker, third) == "completed"
    assert pid(first) == pid(second) == pid(third)


def test_death_costs_the_run_that_trains_and_none_else(worker: Worker, freeze: Callable[..., Frozen]) -> None:
    killed, second, third = freeze("killed"), freeze("calm", "seed=2"), freeze("calm", "seed=3")
    assert train(worker, killed) == -signal.SIGKILL
    assert train(worker, second) == "completed"
    os.kill(pid(second), signal.SIGKILL)  # it has nothing to do now
    until(lambda: Path(f"/proc/{pid(second)}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "its death")
    assert train(worker, third) == "completed"
    assert len({pid(killed), pid(second), pid(third)}) == 3
