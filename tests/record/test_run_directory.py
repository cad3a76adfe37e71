"""A run's directory: who holds it, what is kept in it, what a run begun anew leaves of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import TRAINING

from ncexp.record import Busy, Journal, RunDirectory, State

LATER = "2030-01-02T03:04:05+0000"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / f"digits-mlp-mse_seed0_{TRAINING}")
    directory.path.mkdir()
    return directory


def test_directory_is_held_by_one(directory: RunDirectory) -> None:
    other = RunDirectory(directory.path)
    with directory.locked():
        directory.set_status(State.RUNNING, epoch=3)
        assert other.actual_state() is State.RUNNING
        with (
            pytest.raises(Busy, match=f"{directory.path}: expected a directory that no process works on"),
            other.locked(),
        ):
            pass
    assert other.actual_state() is State.KILLED
    with other.locked():
        assert other.is_held()


def test_status_keeps_the_first_start_and_names_the_job(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (directory.status(), directory.state(), directory.actual_state(), directory.job()) == (None,) * 4
    directory.set_status(State.RUNNING)
    started = (directory.status() or {})["started"]
    monkeypatch.setenv("NCEXP_JOB", "17_3")
    monkeypatch.setattr("time.strftime", lambda _: LATER)
    directory.set_status(State.COMPLETED, epoch=6, message="6 epochs")
    status = directory.status() or {}
    assert (status["started"], status["updated"], status["job"], status["epoch"]) == (started, LATER, "17_3", 6)


def test_kept_files_are_those_of_an_epoch(directory: RunDirectory) -> None:
    directory.snapshots.mkdir()
    for name in ("epoch_0004", "epoch_0001", "epoch_12345", "epoch_00005", "epoch_0009.safetensors.1.2"):
        (directory.snapshots / f"{name}.safetensors").touch()
    assert (directory.kept_snapshots(), directory.kept_checkpoints()) == ([1, 4, 12345], [])
    assert directory.snapshot(4).exists()


def test_identity_is_made_once(directory: RunDirectory) -> None:
    word = directory.identity()
    assert RunDirectory(directory.path).identity() == word == json.loads(directory.identity_path.read_text())["id"]


def test_cleared_run_leaves_what_mlflow_was_sent_and_its_lock(directory: RunDirectory) -> None:
    with directory.locked():
        directory.set_status(State.COMPLETED)
        directory.identity()
        for journal in (directory.training, Journal(directory.measurements / f"errors_{TRAINING}.jsonl")):
            journal.put({"epoch": 1})
        directory.tracking.write_text("{}")
        before = {*directory.path.rglob("*")}
        with RunDirectory(directory.path).locked_measurements(), pytest.raises(Busy, match="another process measures"):
            directory.clear()
        assert before <= {*directory.path.rglob("*")}
        directory.clear()
        assert RunDirectory(directory.path).is_held()
    assert {path.name for path in directory.path.iterdir() if path.suffix != ".lock"} <= {".lock", "mlflow.json"}
    assert directory.tracking.exists()
