"""Measuring stored runs: the numbers of a run that had the analyses from the start, and plain words where it cannot."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import Compose, compose, journals, slow, train, trained

from ncexp.config import ConfigError, MeasureConfig, check_measurement
from ncexp.main import measure as measure_and_note
from ncexp.measure import load_snapshot, measure_stored, missing_epochs, stored
from ncexp.record import Busy, RunDirectory, State, UnusableFolder, read_run
from ncexp.training import Training

Damage = Callable[[Path], Any]
#: A user who owns nothing.
NOBODY = 65534
LAYERS = "analysis.layers.modules=[backbone.1,backbone.3]"
MORE = ["analysis=[robustness,layers]", LAYERS, "analysis.robustness.num_examples=5"]
ALL = ["analysis=[collapse,decisions,decomposition,central_path,layers,robustness]", *MORE[1:]]
KEPT = "keep.checkpoints=evaluated"
CONVOLUTIONS = ["dataset=digits", "architecture=resnet"]


def asked(run: Path, *overrides: str) -> MeasureConfig:
    return check_measurement(compose("measure", [f"run={run}", "device=cpu", *overrides]))


def measure(run: Path, console: Console, *overrides: str) -> tuple[State, str]:
    return measure_stored(asked(run, *overrides), console, lambda: False)


def printed(console: Console) -> str:
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> Any:
    """After a call of it, a step of any training fails."""
    return lambda: monkeypatch.setattr(Training, "_step", None)


@pytest.fixture
def run(composed: Compose, no_training: Any) -> Path:
    """Completed, with the weights of every evaluated epoch."""
    path = trained(composed(KEPT)).path
    no_training()
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        [],
        slow([*CONVOLUTIONS, "epochs=2", "optimizer=adam", "loss=cross_entropy", "batch_size=256"]),
    ],
    ids=["mlp", "convolutions"],
)
def test_measured_later_is_what_the_training_measures_to_the_last_bit(
    composed: Compose, console: Console, tmp_path: Path, no_training: Any, network: list[str]
) -> None:
    base = {"base": []} if network else {}
    place = f"outputs={tmp_path / 'from_the_start'}"
    expected = journals(train(composed(*network, KEPT, *ALL, place, **base)).path)  # type: ignore[arg-type]
    later = train(composed(*network, KEPT, **base)).path  # type: ignore[arg-type]
    no_training()
    state, message = measure(later, console, *MORE)
    assert (state, printed(console)) == (State.COMPLETED, f"measure   completed: {message}\n")
    assert message.endswith("measured")
    assert journals(later) == expected
    assert measure(later, console, *MORE) == (State.COMPLETED, "nothing to measure: all that can be had is there")
    assert read_run(later).records[0].keys() >= {"test/robustness/ratio", "train/layers/backbone.3/nc1_ratio"}


@pytest.mark.slow
def test_statistics_are_measured_without_network_or_data(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = journals(trained(composed(f"outputs={tmp_path / 'undisturbed'}")).path)
    directory = trained(composed("analysis=[]", "keep.checkpoints=[]"))
    monkeypatch.setattr(stored, "assemble", None)
    state, _ = measure(directory.path, console, "analysis=[collapse,decomposition,central_path]")
    assert state is State.COMPLETED
    found = journals(directory.path)
    assert found == {name: lines for name, lines in expected.items() if "decisions" not in name}


@pytest.mark.slow
def test_analysis_of_layers_reads_snapshots_that_have_them(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = trained(composed("analysis=[layers]", LAYERS, "keep.checkpoints=[]"))
    expected = journals(directory.path)
    for path in directory.measurements.glob("layers_*"):
        path.unlink()
    monkeypatch.setattr(stored, "assemble", None)
    assert measure(directory.path, console, "analysis=[layers]", LAYERS)[0] is State.COMPLETED
    assert journals(directory.path) == expected


@pytest.mark.slow
def test_without_analyses_those_of_the_run_are_measured_where_they_lack(run: Path, console: Console) -> None:
    expected = journals(run)
    for path in (run / "measurements").glob("c*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:1] + lines[2:]) + b'{"epoch": 6, "ha')  # one epoch lacks, a line is cut
    assert missing_epochs(asked(run)) == [2]
    assert measure(run, console)[0] is State.COMPLETED
    assert journals(run) == expected


@pytest.mark.slow
def test_what_cannot_be_had_is_explained(composed: Compose, console: Console) -> None:
    directory = trained(composed())  # the last epoch's weights alone
    state, message = measure(directory.path, console, "analysis=[robustness]")
    assert (state, message) == (State.COMPLETED, "1 measured")
    assert printed(console) == (
        "measure   robustness: can be had at epoch 6; 3 other evaluated epochs have no weights. "
        "Next time train with keep.checkpoints=evaluated.\nmeasure   completed: 1 measured\n"
    )
    directory.checkpoint(6).unlink()
    state, message = measure(directory.path, console, *MORE[:2])
    assert state is State.FAILED
    assert message == "0 measured; no input for layers"
    assert "layers: can be had at no epoch; 4 other evaluated epochs have no weights" in printed(console)


@pytest.mark.slow
def test_rerun_all_measures_every_epoch_anew(run: Path, console: Console) -> None:
    expected = journals(run)
    (path,) = (run / "measurements").glob("collapse_*.jsonl")
    path.write_text(path.read_text().replace("0.", "7."))
    assert measure(run, console, "analysis=[collapse]") == (
        State.COMPLETED,
        "nothing to measure: all that can be had is there",
    )
    assert measure(run, console, "analysis=[collapse]", "rerun=all")[0] is State.COMPLETED
    assert journals(run) == expected


@pytest.mark.slow
def test_other_options_have_a_journal_and_names_of_their_own(run: Path, console: Console) -> None:
    for examples in (5, 7):
        measure(run, console, "analysis=[robustness]", f"analysis.robustness.num_examples={examples}")
    key = asked(run, "analysis=[robustness]", "analysis.robustness.num_examples=7").analyses["robustness"].key
    for record in read_run(run).records:
        assert {"test/robustness/ratio", f"test/robustness.{key}/ratio"} <= record.keys()


# Snapshots and checkpoints that cannot be used.


def changed(by: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(by(path.read_bytes()))


cut, cut_in_the_header = changed(lambda data: data[:-5]), changed(lambda data: data[:50])
flip_a_bit = changed(lambda data: data[:-20] + bytes([data[-20] ^ 4]) + data[-19:])
DAMAGES = {"cut": cut, "header cut": cut_in_the_header, "bit flipped": flip_a_bit}


def of_another_training(path: Path) -> None:
    snapshot = load_snapshot(path, path.parents[1].name.rpartition("_")[2])
    snapshot.save(path, "abcdefabcd")


def files(run: Path, *aside: Path) -> dict[Path, bytes]:
    """Snapshots and checkpoints, also under the names of those set aside; `aside`: as if these were set aside."""
    found = {path: path.read_bytes() for path in run.rglob("*.safetensors*")}
    return {path.with_name(f"{path.name}.damaged") if path in aside else path: data for path, data in found.items()}


def without(journal: bytes, epoch: int) -> bytes:
    return b"".join(line for line in journal.splitlines(keepends=True) if f'"epoch": {epoch},'.encode() not in line)


@pytest.mark.parametrize("damage", [*DAMAGES.values(), of_another_training])
def test_damaged_snapshot_is_refused_by_name_and_the_others_are_measured(
    composed: Compose, console: Console, damage: Damage, tmp_path: Path
) -> None:
    expected = journals(trained(composed(f"outputs={tmp_path / 'undisturbed'}")).path)
    directory = trained(composed("analysis=[]", "keep.checkpoints=[]"))
    damage(directory.snapshot(2))
    aside = [] if damage is of_another_training else [directory.snapshot(2)]
    before = files(directory.path, *aside)
    state, message = measure(directory.path, console, "analysis=[collapse]")
    assert state is State.FAILED
    assert "refused, nothing was deleted" in message
    assert f"{directory.snapshot(2)}: expected a snapshot" in printed(console)
    assert printed(console).count("expected a snapshot file") == 1
    assert ("It is epoch_0002.safetensors.damaged now." in printed(console)) is bool(aside)
    assert files(directory.path) == before
    (name,) = (name for name in expected if "collapse" in name)
    assert journals(directory.path)[name] == without(expected[name], 2)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*DAMAGES.values(), of_another_training])
def test_damaged_snapshot_is_named_also_where_the_weights_do(run: Path, console: Console, damage: Damage) -> None:
    directory, expected = RunDirectory(run), journals(run)
    next((run / "measurements").glob("collapse_*.jsonl")).unlink()
    damage(directory.snapshot(2))
    state, _ = measure(run, console, "analysis=[collapse]")
    assert state is State.FAILED
    assert f"{directory.snapshot(2)}: expected a snapshot" in printed(console)
    assert journals(run) == expected


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_checkpoint_is_refused_by_name_and_the_others_are_measured(
    run: Path, console: Console, damage: Damage
) -> None:
    directory = RunDirectory(run)
    next((run / "measurements").glob("collapse_*.jsonl")).unlink()
    damage(directory.checkpoint(2))
    before = files(run, directory.checkpoint(2))
    state, message = measure(run, console, "analysis=[collapse,robustness]")
    assert state is State.FAILED
    assert "refused, nothing was deleted" in message
    assert f"{directory.checkpoint(2)}: expected a weights" in printed(console)
    assert files(run) == before
    have = {record["epoch"]: record for record in read_run(run).records}
    assert all("train/collapse/nc1_trace" in record for record in have.values())  # the snapshots are there
    assert [epoch for epoch, record in have.items() if "test/robustness/ratio" in record] == [1, 4, 6]


def test_weights_of_another_training_are_refused_by_name(run: Path, console: Console) -> None:
    directory = RunDirectory(run)
    other = run.rename(run.parent / run.name.replace(directory.key, "abcdefabcd"))
    state, _ = measure(other, console, "analysis=[robustness]")
    assert state is State.FAILED
    assert f"{RunDirectory(other).checkpoint(2)}: expected a weights" in printed(console)
    assert f"with training abcdefabcd, got training {directory.key}" in printed(console)


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_file_of_another_epoch_is_refused_by_name(run: Path, console: Console, kind: str) -> None:
    place = getattr(RunDirectory(run), kind)
    shutil.copy(place(4), place(2))
    state, _ = measure(run, console, "analysis=[robustness]")
    assert state is State.FAILED
    assert f"{place(2)}: expected the " in printed(console)
    assert "of epoch 2, got those of epoch 4" in printed(console)
    measured = [record["epoch"] for record in read_run(run).records if "test/robustness/ratio" in record]
    assert measured == ([1, 2, 4, 6] if kind == "snapshot" else [1, 4, 6])


def test_what_is_no_run_is_refused(tmp_path: Path, console: Console) -> None:
    with pytest.raises(ConfigError, match=f"run: expected a run directory, got {tmp_path} without config.yaml"):
        measure(tmp_path, console)


@pytest.mark.slow
def test_stopped_measuring_goes_on_where_it_was(run: Path, console: Console) -> None:
    stops = iter([False, False, True])
    config = asked(run, "analysis=[robustness]")
    state, message = measure_stored(config, console, lambda: next(stops))
    assert (state, message) == (State.INTERRUPTED, "2 measured; the same command goes on from here")
    assert missing_epochs(config) == [4, 6]
    assert measure(run, console, "analysis=[robustness]") == (State.COMPLETED, "2 measured")


@pytest.mark.slow
def test_one_measures_a_run_at_a_time(run: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    original = stored.run_analysis

    def meanwhile(*arguments: Any) -> Any:
        with pytest.raises(Busy, match=f"{run}: expected a run that no process measures"):
            measure(run, console, "analysis=[layers]", LAYERS)
        return original(*arguments)

    monkeypatch.setattr(stored, "run_analysis", meanwhile)
    assert measure(run, console, "analysis=[robustness]")[0] is State.COMPLETED


def test_measuring_where_nothing_can_be_written_is_refused(run: Path, console: Console) -> None:
    """A colleague's run, or one of an archive: a traceback, and another in its wake."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are hidden from other users
        theirs = Path(shutil.copytree(run, Path(folder) / run.name))
        config = asked(theirs, "analysis=[geometry]")
        assert missing_epochs(config)
        Path(folder).chmod(0o755)
        theirs.chmod(0o555)
        try:
            if user == 0:  # who may write anywhere
                os.seteuid(NOBODY)
            with pytest.raises(UnusableFolder, match=f"{theirs}.*: expected a folder that takes files and locks"):
                measure_and_note(config.raw, console)
        finally:
            os.seteuid(user)
            theirs.chmod(0o755)
    assert "Traceback" not in printed(console)


@pytest.mark.slow
def test_run_that_was_killed_is_measured_as_far_as_its_checkpoint(
    composed: Compose, console: Console, tmp_path: Path
) -> None:
    expected = journals(trained(composed(KEPT, *ALL, f"outputs={tmp_path / 'undisturbed'}")).path)
    directory = trained(composed(KEPT), stop_after=5)  # the checkpoint is of epoch 4
    assert measure(directory.path, console, *MORE)[0] is State.COMPLETED
    (path,) = directory.measurements.glob("robustness_*.jsonl")
    assert path.read_bytes() == without(expected[f"measurements/{path.name}"], 6)
    train(composed(KEPT))
    assert measure(directory.path, console, *MORE)[0] is State.COMPLETED
    assert journals(directory.path) == expected
