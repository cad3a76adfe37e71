"""What a record is noted to hold, and what of it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import TRAINING

from ncexp.record import Journal, RunDirectory, State, read_run, set_aside
from ncexp.record.contents import decode_inventory
from ncexp.record.inventory import describe_missing, encode_inventory, missing_from
from ncexp.record.tensor_file import write_tensors


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(["training.jsonl", "snapshots"]), st.sets(st.integers(1, 400))), st.integers(0, 400)
)
def test_inventory_comes_back_from_its_words_as_far_as_asked(inventory: dict[str, set[int]], through: int) -> None:
    encoded = encode_inventory(inventory)
    assert decode_inventory(encoded) == inventory
    cut = {place: {epoch for epoch in epochs if epoch <= through} for place, epochs in inventory.items()}
    assert decode_inventory(encoded, through) == cut


def test_missing_is_what_was_noted_and_is_not_there() -> None:
    noted = {"training.jsonl": {1, 2, 3, 5}, "snapshots": {2}, "checkpoints": {3}}
    missing = missing_from({"training.jsonl": {1, 7}, "snapshots": {2}}, noted)
    assert missing == {"training.jsonl": {2, 3, 5}, "checkpoints": {3}}
    assert describe_missing(missing) == "training.jsonl lacks epochs 2-3, 5; checkpoints lacks epoch 3"


def test_inventory_is_that_of_the_status_at_the_end_and_of_the_newest_good_checkpoint_before(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / f"run_{TRAINING}")
    directory.path.mkdir()
    assert directory.noted_inventory() == {}
    directory.set_status(State.RUNNING)
    for path, epoch, record in ((directory.resume_before, 3, "1-2"), (directory.resume, 5, "1-6")):
        write_tensors(path, {}, "resume", TRAINING, position={"epoch": epoch}, record={"training.jsonl": record})
    assert directory.noted_inventory() == {"training.jsonl": {1, 2, 3, 4}}  # as far as it covers
    assert directory.covered_epoch() == 4
    directory.resume.write_bytes(b"")
    assert directory.noted_inventory() == {"training.jsonl": {1, 2}}
    assert directory.covered_epoch() == 2
    directory.set_status(State.COMPLETED, record={"training.jsonl": "1-7"})
    assert directory.noted_inventory() == {"training.jsonl": {*range(1, 8)}}


def test_inventory_of_the_disk_counts_whole_lines_and_files_in_use(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / f"run_{TRAINING}")
    for folder in (directory.snapshots, directory.measurements):
        folder.mkdir(parents=True)
    directory.training.path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    directory.snapshot(1).touch()
    directory.snapshot(2).touch()
    set_aside(directory.snapshot(2))
    Journal(directory.measurements / "errors_01.jsonl").put({"epoch": 2})
    assert directory.inventory() == {
        "training.jsonl": {1, 2},
        "snapshots": {1},
        "checkpoints": set(),
        "measurements/errors_01.jsonl": {2},
    }


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


def test_journal_is_repaired_by_leaving_out_what_is_no_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "training.jsonl")
    lines = ['{"epoch": 1, "fit/loss": 0.5}', "\0\0", '{"epoch": 3, "fit/loss": "high"}', '{"epoch": 4}']
    journal.path.write_text("\n".join(lines) + "\n")
    aside = journal.repair()
    assert aside is not None
    assert aside.read_text() == "\n".join(lines) + "\n"
    assert journal.epochs() == {1, 4}
    assert journal.repair() is None


def test_run_that_is_being_trained_is_not_called_damaged(tmp_path: Path) -> None:
    """A resumption that goes on from an older checkpoint takes lines back that it will write again."""
    directory = RunDirectory(tmp_path / f"run_{TRAINING}")
    with directory.locked():
        choice = "{name: a, _target_: b}"
        directory.config.write_text(f"dataset: {choice}\narchitecture: {choice}\nloss: {choice}\n")
        directory.set_status(State.RUNNING)
        record = {"training.jsonl": "1-4"}
        write_tensors(directory.resume, {}, "resume", TRAINING, position={"epoch": 5}, record=record)
        assert read_run(directory.path).state is State.RUNNING
    assert read_run(directory.path).state is State.DAMAGED
