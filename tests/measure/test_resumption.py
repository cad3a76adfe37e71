"""Files that are damaged or missing: what can be had again is, what cannot is named, nothing is deleted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import Compose, compose, journals, train, trained

from ncexp.main import measure, run
from ncexp.measure import RecordedTraining
from ncexp.record import RunDirectory, State, exit_code, read_run
from ncexp.record.tensor_file import DamagedTensors, UnusableFile, read_tensors, write_tensors
from ncexp.training import Training

WEIGHTS = "keep.checkpoints=evaluated"
QUIET = "tracking.enabled=false"
Damage = Callable[[Path], Any]


def printed(console: Console) -> str:
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def files(directory: RunDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(directory.path)): path.read_bytes() for path in directory.path.rglob("*.safetensors")}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time of a small run."""
    monkeypatch.setattr("ncexp.main.report_run", lambda *_, **__: None)


@pytest.fixture
def left(composed: Compose, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], RunDirectory, RunDirectory]]:
    """left(overrides) → the configuration of a run that was killed in epoch 6, its directory, and an undisturbed one.

    Epochs 1, 2 and 4 are evaluated: the last checkpoint is of epoch 4, the one before it of epoch 2.
    """

    def begin(*overrides: str) -> tuple[dict[str, Any], RunDirectory, RunDirectory]:
        undisturbed = trained(composed(QUIET, *overrides, f"outputs={tmp_path / 'undisturbed'}"))
        raw = composed(QUIET, *overrides)
        return raw, trained(raw, stop_after=5), undisturbed

    return begin


def without_line(epoch: int) -> Damage:
    return lambda path: path.write_text(
        "".join(line for line in path.read_text().splitlines(True) if f'"epoch": {epoch},' not in line)
    )


def cut_after(epoch: int) -> Damage:
    """In the middle of the line that follows."""

    def cut(path: Path) -> None:
        lines = path.read_text().splitlines(True)
        kept = [line for line in lines if int(line[10 : line.index(",")]) <= epoch]
        path.write_text("".join(kept) + lines[len(kept)][:17])

    return cut


def garble(path: Path) -> None:
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(lines[0] + b"\x00\xff" + lines[1][2:] + b"".join(lines[2:]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"\x80\x04garbage" * 40)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 4
    path.write_bytes(bytes(data))


DAMAGES = [cut, empty, overwrite, flip_a_bit]


# Journals.


@pytest.mark.slow
@pytest.mark.parametrize("damage", [without_line(2), cut_after(1), Path.unlink, empty, garble])
@pytest.mark.parametrize("journal", ["training.jsonl", "measurements/errors_*.jsonl", "measurements/decisions_*.jsonl"])
def test_journal_of_a_run_that_goes_on_is_written_again(
    left: Any, console: Console, journal: str, damage: Damage
) -> None:
    raw, directory, undisturbed = left(WEIGHTS)
    (path,) = directory.path.glob(journal)
    before = path.read_bytes()
    damage(path)
    assert run(raw, console) is State.COMPLETED
    assert journals(directory.path) == journals(undisturbed.path)
    assert files(directory) == files(undisturbed)
    if damage is garble:
        assert f"{path}: expected a record" in printed(console)
        assert path.with_name(f"{path.name}.damaged").read_bytes()[-9:] == before[-9:]


@pytest.mark.slow
def test_deleted_measurements_of_a_run_that_goes_on_are_written_again(left: Any, console: Console) -> None:
    raw, directory, undisturbed = left()
    shutil.rmtree(directory.measurements)
    assert run(raw, console) is State.COMPLETED
    assert journals(directory.path) == journals(undisturbed.path)


@pytest.mark.slow
def test_journal_that_is_damaged_while_the_run_trains_is_written_whole(left: Any) -> None:
    raw, directory, undisturbed = left()
    shutil.rmtree(directory.path)
    epochs = RecordedTraining.epochs

    def damaging(self: RecordedTraining, *arguments: Any) -> Any:
        for summary, record in epochs(self, *arguments):
            if summary["epoch"] == 4:
                directory.training.path.unlink()
                next(directory.measurements.glob("errors_*.jsonl")).write_text("")
            yield summary, record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordedTraining, "epochs", damaging)
        train(raw)
    assert journals(directory.path) == journals(undisturbed.path)


@pytest.mark.slow
def test_what_was_measured_before_the_training_measures_it_too_stays(
    left: Any, composed: Compose, console: Console
) -> None:
    raw, directory, _ = left("analysis=[collapse]")
    everything = composed(QUIET, "analysis=[collapse,decomposition]")
    expected = journals(trained({**everything, "outputs": f"{raw['outputs']}_all"}).path)
    measure(compose("measure", [f"run={directory.path}", "analysis=[decomposition]", "device=cpu"]), console)
    assert run(everything, console) is State.COMPLETED
    assert journals(directory.path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_rows_of_many_epochs_move_to_parts_of_which_one_may_be_damaged(
    left: Any, console: Console, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    raw, directory, undisturbed = left()
    shutil.rmtree(directory.path)
    monkeypatch.setattr("ncexp.record.rows.LARGEST_TAIL", 100)
    train(raw, stop_after=5)
    parts = sorted(directory.checkpoints.glob("rows_*"))
    assert [part.name for part in parts] == [f"rows_000{count}.safetensors" for count in (1, 2, 3)]
    damage(parts[0])
    assert run(raw, console) is State.COMPLETED
    assert journals(directory.path) == journals(undisturbed.path)
    assert not [*directory.checkpoints.glob("r*.safetensors")]


@pytest.mark.slow
def test_rows_that_are_nowhere_any_more_are_said_to_be_lost(
    left: Any, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, directory, undisturbed = left()
    shutil.rmtree(directory.path)
    monkeypatch.setattr("ncexp.record.rows.LARGEST_TAIL", 100)
    train(raw, stop_after=5)
    (directory.checkpoints / "rows_0001.safetensors").write_bytes(b"")
    directory.training.path.unlink()
    state = run(raw, console)
    assert (state, exit_code([state])) == (State.FAILED, 1)
    assert "6 epochs, but lost: training.jsonl has 5 of 6 rows" in (directory.status() or {})["message"]
    assert "rows_0001.safetensors.damaged now" in printed(console)
    assert directory.training.epochs() == {*range(2, 7)}
    assert run(raw, console) is State.FAILED  # and says it every time
    assert run({**raw, "rerun": "all"}, console) is State.COMPLETED
    assert journals(directory.path) == journals(undisturbed.path)


@pytest.mark.slow
def test_run_of_version_0_2_goes_on_from_its_journals(left: Any, console: Console) -> None:
    """Its checkpoints have no rows, and its journals run ahead of them."""
    raw, directory, undisturbed = left()
    for path in (directory.resume, directory.resume_before):
        tensors, header = read_tensors(path, "resume", directory.key)
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("rows/")}
        more = {name: header[name] for name in ("position", "groups", "numbers")}
        write_tensors(path, kept, "resume", directory.key, record={"training.jsonl": "1-4"}, **more)
    with directory.training.path.open("a") as file:
        file.write('{"epoch": 5, "fit/loss": 1.0}\n{"epoch": 6, "fit')
    assert run(raw, console) is State.COMPLETED
    assert journals(directory.path) == journals(undisturbed.path)


# Snapshots and weights.


@pytest.mark.slow
def test_files_that_a_kill_left_out_of_a_commit_are_written(left: Any, console: Console) -> None:
    raw, directory, undisturbed = left(WEIGHTS)
    directory.snapshot(4).unlink()
    directory.checkpoint(4).unlink()
    assert run(raw, console) is State.COMPLETED
    assert files(directory) == files(undisturbed)


# The checkpoint to resume from.


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_set_aside_and_the_one_before_it_goes_on(
    left: Any, console: Console, damage: Damage
) -> None:
    raw, directory, undisturbed = left(WEIGHTS)
    damage(directory.resume)
    damaged = directory.resume.read_bytes()
    assert run(raw, console) is State.COMPLETED
    assert f"{directory.resume}: expected a resume file" in printed(console)
    assert "resumed   in epoch 3," in printed(console)
    assert (directory.checkpoints / "resume.safetensors.damaged").read_bytes() == damaged
    assert journals(directory.path) == journals(undisturbed.path)
    assert files(directory) == files(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_good_checkpoint_it_begins_anew_only_when_asked_again(
    left: Any, console: Console, damage: Damage
) -> None:
    raw, directory, undisturbed = left(WEIGHTS)
    damage(directory.resume)
    damage(directory.resume_before)
    kept = {path.read_bytes() for path in directory.path.rglob("*") if path.suffix in (".jsonl", ".safetensors")}
    with pytest.raises(UnusableFile, match=r"kept weights are without the optimizer's state. .* from the first epoch"):
        run(raw, console)
    assert directory.state() is State.FAILED
    assert [record["epoch"] for record in read_run(directory.path).records] == [1, 2, 4]
    assert run({**raw, "rerun": "none"}, console) is State.FAILED
    assert run(raw, console) is State.COMPLETED
    assert "no checkpoint to go on from: it begins anew; set aside: training.jsonl.damaged" in printed(console)
    assert journals(directory.path) == journals(undisturbed.path)
    there = {path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    assert {data for data in kept if data not in there and b"timestamp_ms" not in data} == set()


@pytest.mark.slow
def test_checkpoint_of_another_training_is_refused_and_stays(left: Any, composed: Compose, console: Console) -> None:
    raw, directory, _ = left()
    other = trained(composed(QUIET, "seed=1"), stop_after=5)
    shutil.copy(other.resume, directory.resume)
    with pytest.raises(UnusableFile, match=f"{directory.resume}: expected a resume file with training"):
        run(raw, console)
    assert directory.resume.read_bytes() == other.resume.read_bytes()


@pytest.mark.slow
def test_every_flipped_bit_of_a_real_record_is_found(left: Any) -> None:
    """Five hundred bits of each kind of file, drawn anew by a fixed seed."""
    _, directory, _ = left(WEIGHTS)
    places = {"resume": directory.resume, "weights": directory.checkpoint(2), "snapshot": directory.snapshot(2)}
    rng = random.Random(15)
    for kind, path in places.items():
        data = path.read_bytes()
        read_tensors(path, kind, directory.key)
        for _ in range(500):
            bit = rng.randrange(8 * len(data))
            if bit % 8 == 5:  # of a letter in the header it is upper or lower case: \\u03bb and \\u03Bb are the same
                continue
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bytes(flipped))
            with pytest.raises(UnusableFile, match=str(path)):
                read_tensors(path, kind, directory.key)
        path.write_bytes(data[: rng.randrange(len(data))])
        with pytest.raises(DamagedTensors, match=str(path)):
            read_tensors(path, kind, directory.key)


# A run that has ended.


@pytest.mark.slow
@pytest.mark.parametrize("file", ["status_path", "facts", "config"])
def test_ended_run_that_lost_a_file_trains_nothing_and_has_it_again(
    composed: Compose, console: Console, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = composed(QUIET)
    directory = trained(raw)
    before, read = journals(directory.path), read_run(directory.path)
    getattr(directory, file).unlink()
    monkeypatch.setattr(Training, "_step", None)
    assert run(raw, console) is State.COMPLETED
    assert journals(directory.path) == before
    again = read_run(directory.path)
    assert (again.raw, again.facts, again.records) == (read.raw, read.facts, read.records)


def test_ended_run_has_what_its_journals_lack_measured_again(composed: Compose, console: Console) -> None:
    raw = composed(QUIET, WEIGHTS)
    directory = trained(raw)
    before = journals(directory.path)
    for analysis, damage in (("errors", Path.unlink), ("collapse", cut_after(2)), ("decisions", without_line(4))):
        damage(next(directory.measurements.glob(f"{analysis}_*.jsonl")))
    assert read_run(directory.path).state is State.DAMAGED
    assert run(raw, console) is State.COMPLETED
    assert journals(directory.path) == before
    assert read_run(directory.path).state is State.COMPLETED


@pytest.mark.slow
@pytest.mark.parametrize("damage", [without_line(3), cut_after(4), Path.unlink])
def test_ended_run_says_what_is_lost(composed: Compose, console: Console, damage: Damage) -> None:
    raw = composed(QUIET)
    directory = trained(raw)
    damage(directory.training.path)
    saved = read_run(directory.path)
    assert saved.state is State.DAMAGED
    assert saved.message.startswith("training.jsonl has ")
    state = run(raw, console)
    assert (state, exit_code([state])) == (State.DAMAGED, 1)
    assert "lost: training.jsonl has " in printed(console)
    assert run({**raw, "rerun": "all"}, console) is State.COMPLETED
