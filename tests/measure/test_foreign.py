"""The checkpoints of another training as a run: which directory they belong to, what is added, kept and said."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import foreign_networks
import pytest
import torch
from rich.console import Console
from support import Compose, compose

from ncexp.config import ConfigError, check_checkpoints, check_measurement
from ncexp.main import measure, measure_checkpoints
from ncexp.measure import ForeignTraining
from ncexp.record import RunDirectory, State, load, read_run
from ncexp.report.han2022 import gather
from ncexp.training.foreign_checkpoints import read_foreign_weights

#: A network of forty weights on a handful of digits.
SMALL = [
    "dataset=digits", "dataset.examples_per_class=5", "architecture=module",
    "architecture.factory=foreign_networks.make", "+architecture.width=4", "loss=mse", "optimizer.weight_decay=5e-4",
    "analysis=[collapse]", "tracking.enabled=false",
]  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three checkpoints of a network that goes on changing."""
    folder = tmp_path / "ckpts"
    folder.mkdir()
    for epoch in (1, 2, 3):
        save(folder, epoch)
    return folder


def save(folder: Path, epoch: int, seed: int | None = None) -> Path:
    torch.manual_seed(epoch if seed is None else seed)
    path = folder / f"epoch_{epoch}.pt"
    torch.save(foreign_networks.make(10, width=4).state_dict(), path)
    return path


@pytest.fixture
def measuring(outputs: Path, files: Path) -> Compose:
    def build(*overrides: str, pattern: str = "*.pt") -> dict[str, Any]:
        return compose("checkpoints", [*SMALL, f"outputs={outputs}", f"checkpoints={files}/{pattern}", *overrides])

    return build


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds, and are drawn in tests/test_foreign.py."""
    monkeypatch.setattr("ncexp.main.report_run", lambda *_, **__: None)


def journals(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "measurements").glob("*.jsonl"))}


def runs_of(outputs: Path) -> list[Path]:
    return [path for path in outputs.iterdir() if path.is_dir()]


@pytest.mark.slow
def test_result_is_a_run_directory_like_any_other(measuring: Compose, console: Console, outputs: Path) -> None:
    assert measure_checkpoints(measuring(), console) == "completed"
    (path,) = runs_of(outputs)
    assert path.name.startswith("digits-foreign_networks.make-mse_checkpoints_")
    directory, run = RunDirectory(path), read_run(path)
    assert [record["epoch"] for record in run.records] == [1, 2, 3]
    assert run.training == []
    assert directory.training.path.read_bytes() == b""
    assert directory.kept_snapshots() == [1, 2, 3]
    assert directory.kept_checkpoints() == []
    facts = json.loads(directory.facts.read_text())
    assert facts["ridge_weight"] == 5e-4
    assert facts["checkpoints"].endswith("ckpts/*.pt")
    assert json.loads(directory.environment.read_text())["threads"] >= 1
    runs = load(outputs)  # whose rate and seed are not known
    assert runs.frame()[["lr", "seed"]].isna().all(axis=None)
    assert set(runs.frame()["epoch"]) == {1, 2, 3}
    assert runs.table()["zero_error_epoch"].isna().all()
    (cell,) = gather(runs).cells.values()
    assert [len(group.runs) for group in cell.rates.values()] == [1]
    assert len(cell.kept) == 1


@pytest.mark.slow
def test_rate_and_seed_that_are_known_are_labels(measuring: Compose, console: Console, outputs: Path) -> None:
    measure_checkpoints(measuring("optimizer.lr=0.1", "seed=3"), console)
    (run,) = load(outputs)
    assert run.name == "digits-foreign_networks.make-mse_lr0.1_seed3_checkpoints"
    assert (run.rate, run.seed) == (0.1, 3)


@pytest.mark.slow
def test_same_command_measures_nothing_and_later_files_are_added(
    measuring: Compose, console: Console, outputs: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_checkpoints(measuring(), console)
    (path,) = runs_of(outputs)
    before = journals(path)
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.measure.foreign.ForeignTraining.measure", None)
        assert measure_checkpoints(measuring(), console) == "completed"
    assert "nothing to measure" in console.file.getvalue()  # type: ignore[attr-defined]
    assert journals(path) == before
    save(files, 10)
    (files / "epoch_1.pt").unlink()
    assert measure_checkpoints(measuring(), console) == "completed"
    assert runs_of(outputs) == [path]
    assert [record["epoch"] for record in read_run(path).records] == [1, 2, 3, 10]
    assert list(json.loads((path / "origin.json").read_text())["files"]) == ["1", "2", "3", "10"]
    for name, content in before.items():
        assert journals(path)[name].startswith(content)


@pytest.mark.slow
def test_other_weights_or_decay_make_another_run_and_folders_do_not(
    measuring: Compose, console: Console, outputs: Path, files: Path, tmp_path: Path
) -> None:
    measure_checkpoints(measuring(), console)
    shutil.copytree(files, tmp_path / "moved")
    measure_checkpoints(measuring(f"checkpoints={tmp_path}/moved/*.pt"), console)
    assert len(runs_of(outputs)) == 1
    measure_checkpoints(measuring("optimizer.weight_decay=1e-4"), console)
    assert len(runs_of(outputs)) == 2
    save(files, 2, seed=99)
    measure_checkpoints(measuring(), console)
    assert len(runs_of(outputs)) == 3


@pytest.mark.slow
def test_stopped_measuring_goes_on_and_ends_the_same(measuring: Compose, console: Console, tmp_path: Path) -> None:
    undisturbed = measuring(f"outputs={tmp_path / 'undisturbed'}")
    measure_checkpoints(undisturbed, console)
    asked: list[bool] = []

    class AfterTwo:
        def __call__(self) -> bool:
            asked.append(True)
            return len(asked) > 2

    raw = measuring()
    assert measure_checkpoints(raw, console, AfterTwo()) == "interrupted"  # type: ignore[arg-type]
    (path,) = runs_of(Path(raw["outputs"]))
    assert [record["epoch"] for record in read_run(path).records] == [1, 2]  # seen although it is not through
    assert measure_checkpoints(raw, console) == "completed"
    assert journals(path) == journals(*runs_of(tmp_path / "undisturbed"))


@pytest.mark.slow
def test_measuring_that_was_killed_at_its_very_end_is_completed(
    measuring: Compose, console: Console, outputs: Path
) -> None:
    measure_checkpoints(measuring(), console)
    (path,) = runs_of(outputs)
    RunDirectory(path).set_status(State.RUNNING)
    assert read_run(path).state is State.KILLED
    assert measure_checkpoints(measuring(), console) == "completed"
    assert read_run(path).state is State.COMPLETED


@pytest.mark.slow
def test_rerun_all_measures_every_file_anew(measuring: Compose, console: Console, outputs: Path, files: Path) -> None:
    measure_checkpoints(measuring(), console)
    (path,) = runs_of(outputs)
    before = journals(path)
    (files / "epoch_3.pt").unlink()
    assert measure_checkpoints(measuring("rerun=all"), console) == "completed"
    assert [record["epoch"] for record in read_run(path).records] == [1, 2]
    assert all(content.startswith(journals(path)[name]) for name, content in before.items())


@pytest.mark.slow
def test_another_analysis_later_comes_from_snapshots_files_or_copies(
    measuring: Compose, console: Console, outputs: Path
) -> None:
    measure_checkpoints(measuring(), console)
    (path,) = runs_of(outputs)

    def stored(analysis: str) -> State:
        raw = compose("measure", [f"run={path}", f"analysis=[{analysis}]", f"outputs={outputs}"])
        assert check_measurement(raw)
        return measure(raw, console)

    assert stored("decomposition") == "completed"  # of snapshots
    assert stored("robustness") == "failed"
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Ask for it in the command that measured the checkpoints" in said
    assert measure_checkpoints(measuring("analysis=[decisions]"), console) == "completed"  # of the files
    assert measure_checkpoints(measuring("keep.checkpoints=evaluated"), console) == "completed"
    assert RunDirectory(path).kept_checkpoints() == [1, 2, 3]
    assert stored("decisions") == "completed"  # of copies
    assert "test/collapse/nearest_class_center_mismatch" in read_run(path).records[0]


def test_files_with_the_same_weights_are_named(measuring: Compose, console: Console, files: Path) -> None:
    save(files, 7, seed=3)
    measure_checkpoints(measuring(), console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "weights   4 files, epochs 1 to 7" in printed
    assert "weights   epoch 3 (epoch_3.pt) and epoch 7 (epoch_7.pt) hold the same weights" in printed


def test_weights_that_are_not_finite_are_a_divergence_of_their_file(
    measuring: Compose, console: Console, files: Path
) -> None:
    state = torch.load(files / "epoch_2.pt")
    torch.save({**state, "body.1.weight": torch.full((4,), torch.nan)}, files / "epoch_2.pt")
    raw = measuring()
    assert measure_checkpoints(raw, console) == "diverged"
    (run,) = load(raw["outputs"])
    assert "epoch_2.pt: a feature is not finite" in run.message
    assert [record["epoch"] for record in run.records] == [1]


def test_file_that_does_not_fit_is_refused_before_anything_is_written(
    measuring: Compose, console: Console, outputs: Path, files: Path
) -> None:
    torch.save({"fc.weight": torch.zeros(3)}, files / "epoch_9.pt")
    with pytest.raises(ConfigError, match=r"epoch_9\.pt: expected the weights of this network, got"):
        measure_checkpoints(measuring(), console)
    assert not outputs.exists()


@pytest.mark.parametrize("count", [2, 8])
def test_weights_of_one_checkpoint_alone_are_in_memory(count, measuring, files, monkeypatch):
    (files / "epoch_3.pt").unlink()
    for epoch in range(3, count + 1):
        save(files, epoch)
    seen: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watched(path: Path, *arguments: Any) -> Any:
        gc.collect()
        alive.append(sum(one() is not None for one in seen))
        weights = read_foreign_weights(path, *arguments)
        seen.extend(map(weakref.ref, [weights, *weights.tensors.values()]))
        return weights

    monkeypatch.setattr("ncexp.measure.foreign.read_foreign_weights", watched)
    foreign = ForeignTraining(check_checkpoints(measuring()))
    for epoch in foreign.missing():
        foreign.measure(epoch)
    assert alive == [0] * (2 * count)  # each is read to be checked, and to be measured
    assert len(seen) > 2 * count


def test_file_that_changes_while_it_is_measured_is_refused(measuring: Compose, files: Path) -> None:
    foreign = ForeignTraining(check_checkpoints(measuring()))
    save(files, 2, seed=99)
    with pytest.raises(ValueError, match=r"epoch_2\.pt: expected the weights that it held a moment ago, got others"):
        foreign.measure(2)
