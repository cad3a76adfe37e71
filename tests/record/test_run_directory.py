"""A run's directory: who holds it, what is kept in it, what a run begun anew leaves of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import TRAINING

from ncexp.record import Busy, Journal, RunDirectory, State
from ncexp.record.tensor_file import write_tensors

LATER = "2030-01-02T03:04:05+0000"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / f"digits-mlp-mse_seed0_{TRAINING}")
    directory.path.mkdir()
    return directory


def keep(directory: RunDirectory, *epochs: int) -> None:
    for epoch in epochs:
        write_tensors(directory.snapshot(epoch), {}, "snapshot", directory.key, epoch=epoch)
        write_tensors(directory.checkpoint(epoch), {}, "weights", directory.key, epoch=epoch)


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


def test_damaged_status_is_named(directory: RunDirectory) -> None:
    directory.status_path.write_text('{"state": "runn')
    with pytest.raises(ValueError, match=f"{directory.status_path}: expected JSON, got a damaged file"):
        directory.state()


def test_kept_files_are_those_of_an_epoch(directory: RunDirectory) -> None:
    keep(directory, 1, 4, 12345)
    directory.snapshots.joinpath("epoch_0009.safetensors.1.2").touch()
    assert directory.kept_snapshots() == directory.kept_checkpoints() == [1, 4, 12345]


def test_identity_is_made_once(directory: RunDirectory) -> None:
    word = directory.identity()
    assert RunDirectory(directory.path).identity() == word == json.loads(directory.identity_path.read_text())["id"]


def test_cleared_run_leaves_what_mlflow_was_sent_and_its_lock(directory: RunDirectory) -> None:
    with directory.locked():
        keep(directory, 1)
        directory.set_status(State.COMPLETED)
        directory.identity()
        directory.training.put({"epoch": 1})
        Journal(directory.measurements / f"errors_{TRAINING}.jsonl").put({"epoch": 1})
        directory.tracking.write_text("{}")
        directory.clear()
        assert RunDirectory(directory.path).is_held()
    assert {path.name for path in directory.path.iterdir() if path.suffix != ".lock"} <= {".lock", "mlflow.json"}
    assert directory.tracking.exists()


def test_clear_is_refused_while_the_run_is_measured(tmp_path: Path) -> None:
    directory, other = RunDirectory(tmp_path), RunDirectory(tmp_path)
    directory.facts.write_text("{}")
    with other.locked_measurements(), pytest.raises(Busy, match="another process measures"):
        directory.clear()
    assert directory.facts.exists()
    directory.clear()
    assert not directory.facts.exists()
