"""Files that are damaged or missing: what can be had again is, what cannot is named, nothing is deleted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass
class Left:
    """The configuration of a run that was left, its directory, and that of an undisturbed one."""

    raw: dict[str, Any]
    directory: RunDirectory
    undisturbed: RunDirectory
    console: Console

    @property
    def printed(self) -> str:
        return str(self.console.file.getvalue())  # type: ignore[attr-defined]

    def run(self, **changed: str) -> State:
        return run({**self.raw, **changed}, self.console)

    def completes_as_undisturbed(self, files: bool = False, **changed: str) -> None:
        assert self.run(**changed) is State.COMPLETED
        self.is_as_undisturbed(files)

    def is_as_undisturbed(self, files: bool = False) -> None:
        assert journals(self.directory.path) == journals(self.undisturbed.path)
        if files:
            assert kept(self.directory) == kept(self.undisturbed)


def kept(directory: RunDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(directory.path)): path.read_bytes() for path in directory.path.rglob("*.safetensors")}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time of a small run."""
    monkeypatch.setattr("ncexp.main.report_run", lambda *_, **__: None)


@pytest.fixture
def left(composed: Compose, tmp_path: Path, console: Console) -> Callable[..., Left]:
    """left(overrides) → a run that was killed in epoch 6.

    Epochs 1, 2 and 4 are evaluated: the last checkpoint is of epoch 4, the one before it of epoch 2.
    """

    def begin(*overrides: str, stop_after: int | None = 5) -> Left:
        undisturbed = trained(composed(QUIET, *overrides, f"outputs={tmp_path / 'undisturbed'}"))
        raw = composed(QUIET, *overrides)
        return Left(raw, trained(raw, stop_after=stop_after), undisturbed, console)

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


def changed(by: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(by(path.read_bytes()))


garble, empty = changed(lambda data: data.replace(b"\n{", b"\n\x00\xff", 1)), changed(lambda data: b"")
cut, overwrite = changed(lambda data: data[:-5]), changed(lambda data: b"\x80\x04garbage" * 40)
flip_a_bit = changed(lambda data: data[:-20] + bytes([data[-20] ^ 4]) + data[-19:])
DAMAGES = [cut, empty, overwrite, flip_a_bit]


# Journals.


@pytest.mark.slow
@pytest.mark.parametrize("damage", [without_line(2), cut_after(1), Path.unlink, empty, garble])
@pytest.mark.parametrize("journal", ["training.jsonl", "measurements/errors_*.jsonl", "measurements/decisions_*.jsonl"])
def test_journal_of_a_run_that_goes_on_is_written_again(left: Any, journal: str, damage: Damage) -> None:
    begun = left(WEIGHTS)
    (path,) = begun.directory.path.glob(journal)
    before = path.read_bytes()
    damage(path)
    begun.completes_as_undisturbed(files=True)
    if damage is garble:
        assert f"{path}: expected a record" in begun.printed
        assert path.with_name(f"{path.name}.damaged").read_bytes()[-9:] == before[-9:]


@pytest.mark.slow
def test_deleted_measurements_of_a_run_that_goes_on_are_written_again(left: Any) -> None:
    begun = left()
    shutil.rmtree(begun.directory.measurements)
    begun.completes_as_undisturbed()


@pytest.mark.slow
def test_journal_that_is_damaged_while_the_run_trains_is_written_whole(
    left: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, epochs = left(), RecordedTraining.epochs
    shutil.rmtree(begun.directory.path)

    def damaging(self: RecordedTraining, *arguments: Any) -> Any:
        for summary, record in epochs(self, *arguments):
            if summary["epoch"] == 4:
                begun.directory.training.path.unlink()
                next(begun.directory.measurements.glob("errors_*.jsonl")).write_text("")
            yield summary, record

    monkeypatch.setattr(RecordedTraining, "epochs", damaging)
    train(begun.raw)
    begun.is_as_undisturbed()


@pytest.mark.slow
def test_what_was_measured_before_the_training_measures_it_too_stays(left: Any, composed: Compose) -> None:
    begun = left("analysis=[collapse]")
    everything = composed(QUIET, "analysis=[collapse,decomposition]")
    begun.undisturbed = trained({**everything, "outputs": f"{begun.raw['outputs']}_all"})
    raw = compose("measure", [f"run={begun.directory.path}", "analysis=[decomposition]", "device=cpu"])
    measure(raw, begun.console)
    begun.raw = everything
    begun.completes_as_undisturbed()


@pytest.fixture
def in_parts(left: Any, monkeypatch: pytest.MonkeyPatch) -> Left:
    """The same run, whose rows have moved to parts."""
    begun: Left = left()
    shutil.rmtree(begun.directory.path)
    monkeypatch.setattr("ncexp.record.rows.LARGEST_TAIL", 100)
    train(begun.raw, stop_after=5)
    return begun


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_rows_of_many_epochs_move_to_parts_of_which_one_may_be_damaged(in_parts: Left, damage: Damage) -> None:
    parts = sorted(in_parts.directory.checkpoints.glob("rows_*"))
    assert [part.name for part in parts] == [f"rows_000{count}.safetensors" for count in (1, 2, 3)]
    damage(parts[0])
    in_parts.completes_as_undisturbed()
    assert not [*in_parts.directory.checkpoints.glob("r*.safetensors")]


@pytest.mark.slow
def test_rows_that_are_nowhere_any_more_are_said_to_be_lost(in_parts: Left) -> None:
    directory = in_parts.directory
    empty(directory.checkpoints / "rows_0001.safetensors")
    directory.training.path.unlink()
    state = in_parts.run()
    assert (state, exit_code([state])) == (State.FAILED, 1)
    assert "6 epochs, but lost: training.jsonl has 5 of 6 rows" in (directory.status() or {})["message"]
    assert "rows_0001.safetensors.damaged now" in in_parts.printed
    assert directory.training.epochs() == {*range(2, 7)}
    assert in_parts.run() is State.FAILED  # and says it every time
    in_parts.completes_as_undisturbed(rerun="all")


@pytest.mark.slow
def test_run_of_version_0_2_goes_on_from_its_journals(left: Any) -> None:
    """Its checkpoints have no rows, and its journals run ahead of them."""
    begun = left()
    directory = begun.directory
    for path in (directory.resume, directory.resume_before):
        tensors, header = read_tensors(path, "resume", directory.key)
        without = {name: tensor for name, tensor in tensors.items() if not name.startswith("rows/")}
        more = {name: header[name] for name in ("position", "groups", "numbers")}
        write_tensors(path, without, "resume", directory.key, record={"training.jsonl": "1-4"}, **more)
    with directory.training.path.open("a") as file:
        file.write('{"epoch": 5, "fit/loss": 1.0}\n{"epoch": 6, "fit')
    begun.completes_as_undisturbed()


# Snapshots, weights, and the checkpoint to resume from.


@pytest.mark.slow
def test_files_that_a_kill_left_out_of_a_commit_are_written(left: Any) -> None:
    begun = left(WEIGHTS)
    begun.directory.snapshot(4).unlink()
    begun.directory.checkpoint(4).unlink()
    begun.completes_as_undisturbed(files=True)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_set_aside_and_the_one_before_it_goes_on(left: Any, damage: Damage) -> None:
    begun = left(WEIGHTS)
    damage(begun.directory.resume)
    damaged = begun.directory.resume.read_bytes()
    begun.completes_as_undisturbed(files=True)
    assert f"{begun.directory.resume}: expected a resume file" in begun.printed
    assert "resumed   in epoch 3," in begun.printed
    assert (begun.directory.checkpoints / "resume.safetensors.damaged").read_bytes() == damaged


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_good_checkpoint_it_begins_anew_only_when_asked_again(left: Any, damage: Damage) -> None:
    begun = left(WEIGHTS)
    directory = begun.directory
    damage(directory.resume)
    damage(directory.resume_before)
    before = {path.read_bytes() for path in directory.path.rglob("*") if path.suffix in (".jsonl", ".safetensors")}
    with pytest.raises(UnusableFile, match=r"kept weights are without the optimizer's state. .* from the first epoch"):
        begun.run()
    assert directory.state() is State.FAILED
    assert [record["epoch"] for record in read_run(directory.path).records] == [1, 2, 4]
    assert begun.run(rerun="none") is State.FAILED
    begun.completes_as_undisturbed()
    assert "no checkpoint to go on from: it begins anew; set aside: training.jsonl.damaged" in begun.printed
    there = {path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    assert {data for data in before if data not in there and b"timestamp_ms" not in data} == set()


@pytest.mark.slow
def test_checkpoint_of_another_training_is_refused_and_stays(left: Any, composed: Compose) -> None:
    begun, other = left(), trained(composed(QUIET, "seed=1"), stop_after=5)
    shutil.copy(other.resume, begun.directory.resume)
    with pytest.raises(UnusableFile, match=f"{begun.directory.resume}: expected a resume file with training"):
        begun.run()
    assert begun.directory.resume.read_bytes() == other.resume.read_bytes()


@pytest.mark.slow
def test_every_flipped_bit_of_a_real_record_is_found(left: Any) -> None:
    """Five hundred bits of each kind of file, drawn anew by a fixed seed."""
    directory = left(WEIGHTS).directory
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
    left: Any, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = left(stop_after=None)
    read = read_run(ended.directory.path)
    getattr(ended.directory, file).unlink()
    monkeypatch.setattr(Training, "_step", None)
    ended.completes_as_undisturbed()
    again = read_run(ended.directory.path)
    assert (again.raw, again.facts, again.records) == (read.raw, read.facts, read.records)


def test_ended_run_has_what_its_journals_lack_measured_again(left: Any) -> None:
    ended = left(WEIGHTS, stop_after=None)
    for analysis, damage in (("errors", Path.unlink), ("collapse", cut_after(2)), ("decisions", without_line(4))):
        damage(next(ended.directory.measurements.glob(f"{analysis}_*.jsonl")))
    assert read_run(ended.directory.path).state is State.DAMAGED
    ended.completes_as_undisturbed()
    assert read_run(ended.directory.path).state is State.COMPLETED


@pytest.mark.slow
@pytest.mark.parametrize("damage", [without_line(3), cut_after(4), Path.unlink])
def test_ended_run_says_what_is_lost(left: Any, damage: Damage) -> None:
    ended = left(stop_after=None)
    damage(ended.directory.training.path)
    saved = read_run(ended.directory.path)
    assert saved.state is State.DAMAGED
    assert saved.message.startswith("training.jsonl has ")
    state = ended.run()
    assert (state, exit_code([state])) == (State.DAMAGED, 1)
    assert "lost: training.jsonl has " in ended.printed
    assert ended.run(rerun="all") is State.COMPLETED
