"""Files that are whole or not there, whoever is killed; and folders that take no files, or that have no locks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from ncexp.launching.sweep_directory import SweepDirectory
from ncexp.record import DamagedFile, RunDirectory, UnusableFolder, set_aside, write_text
from ncexp.record.files import replace_file, write_atomically

Write = Callable[[Path, Callable[[BinaryIO], object]], None]


def kill_writer_of(path: Path, write: Write = write_atomically) -> None:
    """As a process that `kill -9` ends amid writing this file."""
    if (child := os.fork()) == 0:
        write(path, lambda file: (file.write(b"half"), file.flush(), os.kill(os.getpid(), signal.SIGKILL)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.count(".") > 2]


def test_file_of_a_killed_writer_is_removed_by_who_holds_the_lock_next(tmp_path: Path) -> None:
    """Of a large network it is as large as a checkpoint, and it stayed for good."""
    run, sweep = RunDirectory(tmp_path / "run_0123456789"), SweepDirectory(tmp_path / "sweep")
    hold = {run.locked: [run.status_path, run.resume], run.locked_measurements: [run.measurements / "a.jsonl"]}
    for lock, paths in {**hold, sweep.locked: [sweep.path / "manifest.jsonl", sweep.configuration(0)]}.items():
        for path in paths:
            kill_writer_of(path)
        theirs = paths[0].with_name(".notes.txt")
        theirs.touch()
        assert len(unfinished(tmp_path)) == len(paths)
        with lock():
            assert not unfinished(tmp_path)
        assert theirs.exists()
        assert not any(path.exists() for path in paths)


def test_file_that_is_being_written_is_not_removed(tmp_path: Path) -> None:
    """A measuring writes into a run's folder while a training begins there, on this machine or another."""
    run = RunDirectory(tmp_path / "run_0123456789")

    def meanwhile(file: BinaryIO) -> None:
        file.write(b"whole")
        with run.locked(), run.locked_measurements():
            pass

    write_atomically(run.measurements / "a.jsonl", meanwhile)
    assert (run.measurements / "a.jsonl").read_bytes() == b"whole"


def test_run_with_a_link_takes_no_training_and_loses_nothing_behind_it(tmp_path: Path) -> None:
    run, elsewhere = RunDirectory(tmp_path / "run_0123456789"), tmp_path / "elsewhere"
    kill_writer_of(elsewhere / "theirs")
    run.path.mkdir()
    run.figures.symlink_to(elsewhere)
    whole = RunDirectory(tmp_path / "run_1123456789")
    whole.path.symlink_to(elsewhere)
    for one in (run, whole):
        with (
            pytest.raises(DamagedFile, match=f"expected a file in {tmp_path}, got a link to {elsewhere}"),
            one.locked(),
        ):
            pass
    assert list(elsewhere.iterdir()) == unfinished(elsewhere)
    assert [*run.path.iterdir()] == [run.figures]


def test_replaced_file_is_as_it_was_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "all [1].csv"
    write_text(path, "earlier")
    kill_writer_of(path, replace_file)
    assert path.read_text() == "earlier"
    assert len(unfinished(tmp_path)) == 1
    replace_file(path, lambda file: file.write(b"new"))
    assert [(one, one.read_text()) for one in tmp_path.iterdir()] == [(path, "new")]


@pytest.mark.parametrize("fault", [errno.ENOLCK, errno.ENOTSUP])
def test_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    run, sweep = RunDirectory(tmp_path / "run_0123456789"), SweepDirectory(tmp_path / "sweep")
    with run.locked():
        pass

    def no_locks(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for lock in (run.locked, run.locked_measurements, sweep.locked):
        with pytest.raises(UnusableFolder, match=rf"takes files and locks, got {os.strerror(fault)}\. "), lock():
            pass
    assert not run.is_held()
    write_text(run.status_path, "{}")  # atomic all the same


def test_file_is_set_aside_under_a_name_of_its_own_each_time(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for content in "abc":
        path.write_text(content)
        set_aside(path)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {
        "status.json.damaged": "a",
        "status.json.damaged2": "b",
        "status.json.damaged3": "c",
    }
