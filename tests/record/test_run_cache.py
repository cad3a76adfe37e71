"""What is kept of a run that was read: the journals' own numbers, and never those of other journals."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas
import pytest
from synthetic_sweep import write_run

import ncexp
from ncexp.cli import main
from ncexp.record import SavedRun, State, column
from ncexp.record.array_rows import ArrayRows
from ncexp.record.journal import Journal
from ncexp.record.run_cache import FEWEST_BYTES, NAME
from ncexp.record.run_directory import RunDirectory
from ncexp.record.saved_run import read_run, read_runs

LONG_AGO_NS = 1_700_000_000 * 10**9


def aged(folder: Path) -> Path:
    """Files of a run as they are long after it has ended."""
    for path in folder.rglob("*.json*"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    os.utime(folder / "config.yaml", ns=(LONG_AGO_NS, LONG_AGO_NS))
    return folder


def run_with_all_kinds(folder: Path, **options: Any) -> Path:
    """Numbers that are whole, undefined, infinite; epochs with fewer of them; a decomposition in doubt."""
    path = write_run(folder, more=True, **options)
    (decomposed,) = (path / "measurements").glob("decomposition_*.jsonl")
    lines = [json.loads(line) for line in decomposed.read_text().splitlines()]
    for place, line in enumerate(lines):
        line |= {"train/mse/identity_residual": 1e-3 if place % 2 else 0.5, "train/mse/loss_rounding": 1e-9}
        line |= {"train/mse/counted": place, "train/mse/far": "inf", "train/mse/undefined": None}
    decomposed.write_text("".join(json.dumps(line) + "\n" for line in lines[2:]))
    return aged(path)


def everything(run: SavedRun) -> str:
    """All that there is of a run, whole numbers and others told apart."""
    rows = [[*run.training], [*run.records], {place: [*rows] for place, rows in run.measured.items()}]
    return repr((run.path, run.raw, run.facts, run.state, run.message, rows, run.path_fit, run.doubts, run.parameters))


def parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedRun:
    """The run from its journals."""
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.record.saved_run.read_cache", lambda *_: None)
        return read_run(path)


def test_run_that_was_read_before_is_the_same_without_its_journals(tmp_path, monkeypatch):
    monkeypatch.setattr("ncexp.record.run_cache.FEWEST_BYTES", 2**12)
    monkeypatch.setattr("ncexp.record.runs.TOGETHER", 2)
    paths = [run_with_all_kinds(tmp_path, seed=seed) for seed in range(2)]
    paths.append(aged(write_run(tmp_path, seed=2, state=State.DIVERGED)))
    expected = [everything(parsed(path, monkeypatch)) for path in paths]
    cold = ncexp.load(tmp_path)
    frame, table = cold.frame(), cold.table()
    assert all((path / NAME).is_file() for path in paths)
    assert [word in expected[0] for word in ("inf", "nan", "counted")] == [True] * 3
    assert all(run.doubts for run in [*cold][:2])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "read", None)  # nobody reads one
        warm = ncexp.load(tmp_path)
    by_path = {run.path: everything(run) for run in warm}
    assert [by_path[path.resolve()] for path in paths] == expected
    assert all(
        isinstance(run.records, ArrayRows) and run.zero_error_epoch == read_run(run.path).zero_error_epoch
        for run in warm
    )
    pandas.testing.assert_frame_equal(warm.frame(), frame, check_exact=True)
    pandas.testing.assert_frame_equal(warm.table(), table, check_exact=True)
    with pytest.warns(UserWarning, match="up to epoch 350, got 24"):
        common = [runs.frame(common_epochs=True) for runs in (cold, warm)]
    pandas.testing.assert_frame_equal(*common, check_exact=True)
    assert not [*tmp_path.rglob(f".{NAME}.*")]


def in_place(path: Path) -> None:
    """Another number in a journal of the same size and time."""
    text, times = path.read_text(), path.stat()
    changed = text.replace('"fit/error": 0.', '"fit/error": 1.', 1)
    assert changed != text
    path.write_text(changed)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def another_file(path: Path) -> None:
    """As `in_place`, by a file that takes the place of the journal."""
    shutil.copy2(path, beside := path.with_name("beside"))
    in_place(beside)
    beside.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a number, of the same size and time": lambda path: in_place(path / "training.jsonl"),
    "another file, of the same size and time": lambda path: another_file(path / "training.jsonl"),
    "a row more": lambda path: append(next((path / "measurements").glob("errors_*.jsonl"))),
    "a measurement less": lambda path: next((path / "measurements").glob("collapse_*.jsonl")).unlink(),
    "the configuration": lambda path: reword(path / "config.yaml", "epochs: 350", "epochs: 351"),
    "the facts": lambda path: reword(path / "facts.json", "1400", "1401"),
    "the state": lambda path: reword(path / "status.json", "completed", "diverged"),
    "a fit": lambda path: (path / "path_fit.json").write_text("{}"),
}


def append(path: Path) -> None:
    line = json.loads(path.read_text().splitlines()[-1])
    path.write_text(path.read_text() + json.dumps(line | {"epoch": 400}) + "\n")


def reword(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("change", CHANGES)
def test_run_is_parsed_again_after_a_change(change, tmp_path, monkeypatch):
    path = aged(write_run(tmp_path))
    before = everything(next(iter(ncexp.load(tmp_path))))
    first = (path / NAME).read_bytes()
    CHANGES[change](path)
    (run,) = ncexp.load(tmp_path)
    assert everything(run) == everything(parsed(path, monkeypatch))
    assert (everything(run) == before) is (change == "a fit")
    aged(path)
    (again,) = ncexp.load(tmp_path)
    assert everything(again) == everything(run)
    assert (path / NAME).read_bytes() != first


def frame(folder: Path) -> str:
    return str(ncexp.load(folder).frame().to_csv())


def table(folder: Path) -> str:
    return str(ncexp.load(folder).table().to_csv())


#: What reads runs: a function of a folder, or the words of a command for two of them.
READERS: dict[str, Callable[[Path], str] | list[str]] = {
    "frame": frame,
    "table": table,
    "ncexp runs": ["runs", "--outputs", "FOLDER"],
    "ncexp status": ["status", "--outputs", "FOLDER"],
    "ncexp compare": ["compare", "--outputs", "FOLDER", "digits*"],
    "ncexp report": ["report", "FOLDER", "--to", "FOLDER/report"],
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_shows_what_changed_after_the_cache_was_made(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ncexp.report.whole.write_report", lambda *_, **__: (Path("page"), []))
    paths = [aged(write_run(tmp_path, seed=seed)) for seed in range(2)]
    way = READERS[reader]

    def shown() -> str:
        if callable(way):
            return way(tmp_path)
        capsys.readouterr()
        main([word.replace("FOLDER", str(tmp_path)) for word in way])
        return capsys.readouterr().out

    ncexp.load(tmp_path)
    assert all((path / NAME).is_file() for path in paths)
    first = shown()
    (errors,) = (paths[0] / "measurements").glob("errors_*.jsonl")
    *lines, last = errors.read_text().splitlines()
    times = errors.stat()
    number = json.loads(last)["test/error"]
    other = json.dumps(number).replace(json.dumps(number)[:4], "0.77", 1)  # as many characters, and the time of before
    errors.write_text("\n".join([*lines, last.replace(json.dumps(number), other)]) + "\n")
    os.utime(errors, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert errors.stat().st_size == times.st_size
    reword(paths[1] / "status.json", "completed", "diverged")
    changed = shown()
    for path in paths:
        (path / NAME).unlink(missing_ok=True)
    assert changed != first
    assert changed == shown()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-9],
    "garbage": lambda data: b"\xff" * len(data),
    "a number": lambda data: flipped(data, len(data) - 3),
    "a word": lambda data: data.replace(b"completed", b"diverged_"),
    "another version": lambda data: data.replace(b"array_rows.py", b"array_raws.py"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_is_made_again(damage, tmp_path):
    path = aged(write_run(tmp_path))
    (run,) = ncexp.load(tmp_path)
    sound = (path / NAME).read_bytes()
    assert DAMAGE[damage](sound) != sound
    (path / NAME).write_bytes(DAMAGE[damage](sound))
    (again,) = ncexp.load(tmp_path)
    assert everything(again) == everything(run)
    assert (path / NAME).read_bytes() == sound


def test_link_in_place_of_the_cache_leads_nowhere(tmp_path):
    path, elsewhere = aged(write_run(tmp_path / "runs")), tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (path / NAME).symlink_to(elsewhere)
    assert len(ncexp.load(tmp_path / "runs")) == 1
    assert elsewhere.read_text() == "mine"
    assert not (path / NAME).is_symlink()


def test_nothing_is_written_where_it_does_not_belong(tmp_path, monkeypatch):
    young = write_run(tmp_path, seed=0)
    soon = time.time_ns() + 10**13  # however slow this machine is, it was written less than two seconds ago
    os.utime(young / "training.jsonl", ns=(soon, soon))
    aged(write_run(tmp_path, seed=1, epochs=[1, 2]))
    aged(write_run(tmp_path, seed=2, state=State.RUNNING))
    assert sum(path.stat().st_size for path in next(tmp_path.glob("*seed1_*")).rglob("*.jsonl")) < FEWEST_BYTES
    others = aged(write_run(tmp_path / "others"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert len(ncexp.load(tmp_path / "others")) == 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert len(ncexp.load(tmp_path / "others")) == 1
    read_run(others)
    read_runs([tmp_path / "others"], only_last=True)
    assert len(ncexp.load(tmp_path)) == 3
    assert [*tmp_path.rglob(f"*{NAME}*")] == []


def test_full_disk_costs_the_cache_and_nothing_else(tmp_path, monkeypatch):
    aged(write_run(tmp_path))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    (run,) = ncexp.load(tmp_path)
    assert len(run.records) > 10
    assert [*tmp_path.rglob(f"*{NAME}*")] == []


def test_readers_at_once_and_a_run_that_is_removed(tmp_path, monkeypatch):
    paths = [aged(write_run(tmp_path, seed=seed)) for seed in range(3)]
    expected = [everything(parsed(path, monkeypatch)) for path in paths]

    def read(number: int) -> list[str]:
        if number % 4 == 0:
            (paths[number % 3] / NAME).unlink(missing_ok=True)
        runs = {run.path: everything(run) for run in ncexp.load(tmp_path)}
        return [runs[path.resolve()] for path in paths]

    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(read, range(12)))
    shutil.rmtree(paths[0])
    assert len(ncexp.load(tmp_path)) == 2


def test_one_who_works_on_the_run_removes_what_a_killed_reader_left(tmp_path):
    path = aged(write_run(tmp_path))
    left = path / f".{NAME}.1.2"
    left.write_bytes(b"half")
    with RunDirectory(path).locked():
        assert not left.exists()


RECORDS = [
    {"epoch": 1, "a": 0.5, "b": math.nan, "n": 3},
    {"epoch": 2, "a": -0.0, "b": math.inf, "n": 2**53 - 1},
    {"epoch": 3, "a": 1e-320},
    {"epoch": 4, "a": 0.1, "b": 2.0, "n": 0},
]


def test_rows_as_arrays_are_the_list_of_records():
    rows = ArrayRows.of(RECORDS)
    assert rows == RECORDS
    assert [*rows] == RECORDS
    assert rows != RECORDS[:-1]
    assert repr(rows) == repr(RECORDS)
    assert [rows[-1], rows[0], rows[1:3], rows[::-1]] == [RECORDS[-1], RECORDS[0], RECORDS[1:3], RECORDS[::-1]]
    assert [repr(column(rows, name)) for name in "abn"] == [repr(column(RECORDS, name)) for name in "abn"]
    assert column(rows, "epoch") == [1, 2, 3, 4]
    assert {*map(type, column(rows, "epoch"))} == {int}
    with pytest.raises(IndexError):
        rows[4]
    assert not ArrayRows.of([])
    assert ArrayRows.of([*RECORDS, {"epoch": 5, "c": 1}]) is not None
    assert ArrayRows.of([*RECORDS, {"epoch": 5, "a": 1}]) is None
    assert ArrayRows.of([*RECORDS, {"epoch": 5, "a": 1, "b": 1.0, "n": 1}]) is None
    assert ArrayRows.of([*RECORDS, {"epoch": 5, "a": 1.0, "b": 1.0, "n": 2**53}]) is None


def test_numbers_of_a_run_that_was_just_parsed_are_arrays_too(tmp_path, monkeypatch):
    """Where no cache may be written, as in a folder of somebody else: dictionaries of 7,500 runs take 7 GB."""
    path = run_with_all_kinds(tmp_path)
    expected = parsed(path, monkeypatch)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (run,) = ncexp.load(tmp_path)
    assert not (path / NAME).exists()
    assert not isinstance(expected.records, ArrayRows)
    assert isinstance(run.records, ArrayRows)
    assert everything(run) == everything(expected)
    assert run.zero_error_epoch == expected.zero_error_epoch


def test_collection_of_garbage_is_as_before_after_reading(tmp_path):
    write_run(tmp_path)
    ncexp.load(tmp_path)
    assert gc.isenabled()
    gc.disable()
    try:
        ncexp.load(tmp_path)
        assert not gc.isenabled()
    finally:
        gc.enable()
