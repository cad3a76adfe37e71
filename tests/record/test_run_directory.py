"""A run's directory: who holds it, how far what it has is for good, what a run begun anew leaves of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from support import TRAINING

from ncexp.record import Busy, Journal, RunDirectory, State
from ncexp.record.tensor_file import write_tensors

LATER = "2030-01-02T03:04:05+0000"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / f"digits-mlp-mse_seed0_{TRAINING}")
    directory.path.mkdir()
    return directory


def resume_at(directory: RunDirectory, epoch: int) -> None:
    """A checkpoint that says: this epoch is being trained."""
    position = {"epoch": epoch, "step": 2, "loss_sum": 0.0, "wrong": 0}
    write_tensors(directory.resume, {"a": torch.zeros(1)}, "resume", directory.key, position=position)


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


def test_run_is_covered_as_far_as_its_checkpoint_and_when_final_wholly(directory: RunDirectory) -> None:
    assert directory.covered_epoch() == 0
    directory.set_status(State.RUNNING)
    resume_at(directory, 5)
    assert directory.covered_epoch() == 4
    for state, covered in ((State.INTERRUPTED, 4), (State.FAILED, 4), (State.DIVERGED, math.inf)):
        directory.set_status(state)
        assert directory.covered_epoch() == covered
    directory.resume.unlink()
    directory.set_status(State.COMPLETED)
    assert directory.covered_epoch() == math.inf


def test_run_with_a_damaged_checkpoint_is_covered_but_for_the_last_evaluation(directory: RunDirectory) -> None:
    """Each evaluation ended with a checkpoint: only that of the last one may be the file that is damaged."""
    directory.set_status(State.RUNNING)
    resume_at(directory, 5)
    directory.resume.write_bytes(directory.resume.read_bytes()[:50])
    assert directory.covered_epoch() == 0
    journal = Journal(directory.measurements / f"errors_{TRAINING}.jsonl")
    for epoch, covered in ((1, 0), (2, 1), (4, 2)):
        journal.put({"epoch": epoch, "train/error": 0.5})
        assert directory.covered_epoch() == covered


def test_kept_files_are_those_that_no_resumption_writes_again(directory: RunDirectory) -> None:
    keep(directory, 1, 4, 12345)
    directory.snapshots.joinpath("epoch_0009.safetensors.1.2").touch()
    directory.set_status(State.RUNNING)
    resume_at(directory, 5)
    assert directory.kept_snapshots() == directory.kept_checkpoints() == [1, 4]
    directory.set_status(State.COMPLETED)
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
    with other.measuring(), pytest.raises(Busy, match="another process measures"):
        directory.clear()
    assert directory.facts.exists()
    directory.clear()
    assert not directory.facts.exists()
