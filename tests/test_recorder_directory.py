"""The directory of a recorded loop: like any other, its own whatever happens, and refused to others."""

from __future__ import annotations

import inspect
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import compare, export, report
from own_loops import loaders, network
from recorded_loops import OPTIONS, measurements, record
from rich.console import Console
from support import Compose, compose, train
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ncexp
from ncexp import recorder as recorder_module
from ncexp.config import ConfigError, MeasureConfig, check_measurement
from ncexp.measure import measure_stored
from ncexp.record import Busy, RunDirectory, State, read_json, read_run
from ncexp.report.study import study_of
from ncexp.training import Diverged


@pytest.fixture(autouse=True)
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds: they are drawn only for tests that ask for this fixture by name."""
    if "drawn" not in inspect.signature(request.function).parameters:
        monkeypatch.setattr(recorder_module, "draw_run", lambda directory: [])


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
def test_result_is_a_run_directory_like_any_other(
    tmp_path: Path, drawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = record(tmp_path, lr=0.05, dataset="gaussians", architecture="small")
    (run,) = ncexp.load(tmp_path)
    assert (run.name, run.state, run.message) == ("mine", State.COMPLETED, "3 evaluated epochs")
    assert run.key == str(read_json(directory.identity_path)["id"])[:10]
    assert [one["epoch"] for one in run.records] == [1, 2, 3]
    assert (run.cell, run.rate) == (("gaussians", "small", "mse"), 0.05)
    assert run.facts["num_train"], run.facts["num_test"] == (90, 40)
    assert directory.kept_snapshots() == [1, 2, 3]
    assert {path.name for path in directory.figures.iterdir()} >= {"neural_collapse.png", "mse_decomposition.png"}
    frame = ncexp.load(tmp_path).frame()
    assert set(frame.run) == {run.key}
    assert compare([str(directory.path), "mine", "--in", str(tmp_path)]) == 0
    assert export([str(tmp_path), "--to", str(tmp_path / "all.csv")]) == 0
    assert report([str(tmp_path), "preset=han2022", "--to", str(tmp_path / "report")]) == 0
    assert "| gaussians | small | mse | 0.05 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering")
@pytest.mark.parametrize(("tested", "rate"), [(True, None), (False, None), (False, 0.05)])
def test_report_takes_runs_without_rate_or_test_examples(
    tmp_path: Path, tested: bool, rate: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    train_loader, test_loader = loaders()
    for seed in (0, 1):
        with ncexp.Recorder(tmp_path / f"run{seed}", **OPTIONS, lr=rate, seed=seed if rate else None) as recorder:
            recorder.evaluate(1, network(), train_loader, test_loader if tested else None)
    assert report([str(tmp_path), "preset=han2022", "--to", str(tmp_path / "report")]) == 0
    assert f"| TensorDataset | Sequential | mse | {rate or '–'} | 2 |" in capsys.readouterr().out
    assert ncexp.load(tmp_path).frame().lr.iloc[0] == pytest.approx(rate or math.nan, nan_ok=True)


def measure(run: Path, console: Console, analysis: str) -> tuple[State, str]:
    config: MeasureConfig = check_measurement(compose("measure", [f"run={run}", "device=cpu", analysis]))
    return measure_stored(config, console, lambda: False)


@pytest.mark.slow
def test_statistics_are_measured_later_from_snapshots_alone(tmp_path: Path, console: Console) -> None:
    """To the last bit what the loop itself would have measured."""
    at_once = {path.name: path.read_bytes() for path in measurements(record(tmp_path / "one").path)}
    later = record(tmp_path / "two", analyses=[]).path
    assert [path.name.partition("_")[0] for path in measurements(later)] == ["errors"]
    assert measure(later, console, "analysis=[collapse,decomposition,central_path]")[0] is State.COMPLETED
    found = {path.name: path.read_bytes() for path in measurements(later)}
    assert found == {name: content for name, content in at_once.items() if not name.startswith("decisions")}


@pytest.mark.slow
def test_measuring_what_needs_the_network_says_how_to_have_it(tmp_path: Path, console: Console) -> None:
    state, _ = measure(record(tmp_path).path, console, "analysis=robustness")
    assert state is State.FAILED
    words = (
        "robustness: can be had at no epoch; 3 other evaluated epochs have no weights. A Recorder keeps no weights: "
        "next time name it in ncexp.Recorder(analyses=...)."
    )
    assert words in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_analyses_take_options_and_may_be_ones_own(tmp_path: Path) -> None:
    chosen = {"layers": {"modules": ["0", "2"]}, "robustness": {"num_examples": 5}}
    own = {"mine": {"_target_": "recorded_loops.LargestLogit"}}
    (found,) = read_run(record(tmp_path, range(1, 2), analyses={**chosen, **own}).path).records
    assert {"train/layers/0/nc1_ratio", "test/layers/2/cdnv", "test/robustness/ratio"} <= found.keys()
    assert found["train/logits/largest"] > 0


def test_exception_leaves_an_interrupted_run_with_the_reason(tmp_path: Path) -> None:
    train_loader, _ = loaders()

    def stopped_loop() -> None:
        with ncexp.Recorder(tmp_path / "mine", **OPTIONS) as recorder:
            recorder.evaluate(1, network(), train_loader)
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt):
        stopped_loop()
    run = read_run(tmp_path / "mine")
    assert (run.state, run.message) == (State.INTERRUPTED, "KeyboardInterrupt: enough")
    assert [one["epoch"] for one in run.records] == [1]
    assert "KeyboardInterrupt" in (tmp_path / "mine" / "run.log").read_text()


def test_feature_that_is_not_finite_is_a_divergence(tmp_path: Path) -> None:
    model, (train_loader, _) = network(), loaders()
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(Diverged), ncexp.Recorder(tmp_path / "mine", **OPTIONS) as recorder:
        recorder.evaluate(1, model, train_loader)
    assert read_run(tmp_path / "mine").state is State.DIVERGED


@pytest.mark.slow
def test_stopped_loop_goes_on_in_its_directory_and_leaves_the_same(tmp_path: Path) -> None:
    """Started again from its beginning: the numbers of epochs that are there are replaced, by the same ones."""
    record(tmp_path / "stopped", range(1, 3))
    whole, stopped = (measurements(record(tmp_path / name).path) for name in ("whole", "stopped"))
    assert {one.name: one.read_bytes() for one in whole} == {one.name: one.read_bytes() for one in stopped}


def test_epoch_that_is_there_is_replaced_with_a_warning_and_others_stay(tmp_path: Path) -> None:
    train_loader, _ = loaders()
    recorder = ncexp.Recorder(tmp_path / "mine", **OPTIONS)
    first, second = (recorder.evaluate(epoch, network(), train_loader)["train/loss"] for epoch in (1, 2))
    with pytest.warns(UserWarning, match="epoch: expected one that this Recorder has not evaluated, got 1 again"):
        third = recorder.evaluate(1, network(), train_loader)["train/loss"]
    assert first != third
    assert [one["train/loss"] for one in read_run(tmp_path / "mine").records] == [third, second]


@pytest.mark.slow
def test_directory_of_another_run_is_refused(tmp_path: Path, composed: Compose) -> None:
    record(tmp_path)
    with pytest.raises(ConfigError, match=r"optimizer: expected .*'weight_decay': 0.0005.* Name another directory"):
        ncexp.Recorder(tmp_path / "mine", **{**OPTIONS, "weight_decay": 1e-4})
    with pytest.raises(ConfigError, match="a training of ncexp's"):
        ncexp.Recorder(train(composed()).path, **OPTIONS)


#: What differs in a loop → what is said where it goes on in the directory of another.
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer": ({"kind": torch.optim.Adam}, r"optimizer: expected .*sgd.SGD.*, got .*adam.Adam"),
    "lr": ({"lr": 0.2}, r"optimizer: expected .*'lr': 0.1.*, got .*'lr': 0.2"),
    "weight_decay": ({"weight_decay": 0.3}, r"optimizer: expected .*'weight_decay': 0.0.*, got .*'weight_decay': 0.3"),
    "width": ({"width": 100}, r"architecture: expected .*'num_features': 8.*, got .*'num_features': 100"),
    "examples": ({"examples": 60}, r"dataset: expected .*'num_train': 40.*, got .*'num_train': 60"),
    "num_classes": ({"num_classes": 3}, r"dataset: expected .*'num_classes': 4.*, got .*'num_classes': 3"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_directory_continued_by_another_loop_is_refused(tmp_path: Path, what: str) -> None:
    changed, words = CHANGES[what]
    small_loop(tmp_path / "mine")
    small_loop(tmp_path / "mine", scheduled=True)  # the same loop, at another of its epochs
    with pytest.raises(ConfigError, match=words):
        small_loop(tmp_path / "mine", **changed)


def small_loop(directory: Path, scheduled: bool = False, **changed: Any) -> None:
    """One evaluation of a loop with these options."""
    chosen = {"kind": torch.optim.SGD, "lr": 0.1, "weight_decay": 0.0, "width": 8, "examples": 40, "num_classes": 4}
    chosen |= changed
    inputs, labels = torch.randn(chosen["examples"], 5), torch.arange(chosen["examples"]) % chosen["num_classes"]
    model = nn.Sequential(nn.Linear(5, chosen["width"]), nn.Linear(chosen["width"], chosen["num_classes"]))
    optimizer = chosen["kind"](model.parameters(), lr=chosen["lr"], weight_decay=chosen["weight_decay"])
    if scheduled:
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
        optimizer.param_groups[0]["lr"] /= 10
    options = {"num_classes": chosen["num_classes"], "classifier": "1", "analyses": [], "optimizer": optimizer}
    with ncexp.Recorder(directory, **options) as recorder:
        recorder.evaluate(1, model, DataLoader(TensorDataset(inputs, labels), 20))


@pytest.mark.usefixtures("no_rendering")
def test_loops_that_differ_are_told_apart_by_key_and_report(tmp_path: Path) -> None:
    """Keys begin with the hash of the settings: loops of equal ones, seeds perhaps, begin alike and are two runs."""
    changes = {"one": {}, "two": {}} | {what: changed for what, (changed, _) in CHANGES.items()}
    for name, changed in changes.items():
        small_loop(tmp_path / name, **changed)
    keys = {name: RunDirectory(tmp_path / name).key for name in changes}
    assert all(re.fullmatch("[0-9a-f]{10}", key) for key in keys.values())
    assert len({*keys.values()}) == len(changes)
    assert keys["one"][:5] == keys["two"][:5]
    assert len({key[:5] for key in keys.values()}) == len(changes) - 1
    study = study_of(ncexp.load(tmp_path))
    assert sorted(len(setting.runs) for setting in study.settings) == [1] * 6 + [2]
    assert {"lr", "optimizer.weight_decay", "dataset.num_classes"} <= {column.name for column in study.by}


@pytest.mark.slow
def test_directory_that_is_recorded_to_is_busy(tmp_path: Path) -> None:
    train_loader, _ = loaders()
    recorder, late = (ncexp.Recorder(tmp_path / "mine", **OPTIONS) for _ in range(2))
    assert not (tmp_path / "mine").exists()
    recorder.evaluate(1, network(), train_loader)
    with pytest.raises(Busy):
        ncexp.Recorder(tmp_path / "mine", **OPTIONS)
    with pytest.raises(Busy):
        late.evaluate(1, network(), train_loader)
    recorder.close()
    ncexp.Recorder(tmp_path / "mine", **OPTIONS).close()


@pytest.mark.slow
def test_directory_may_be_moved_and_renamed(tmp_path: Path, console: Console) -> None:
    old = record(tmp_path, analyses=[]).path
    key = RunDirectory(old).key
    new = Path(shutil.move(old, tmp_path / "quite_another"))
    assert (read_run(new).name, read_run(new).key) == ("quite_another", key)
    assert measure(new, console, "analysis=collapse")[0] is State.COMPLETED


def test_running_record_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    train_loader, _ = loaders()
    recorder = ncexp.Recorder(tmp_path / "mine", **OPTIONS)
    recorder.evaluate(1, network(), train_loader)
    run = read_run(tmp_path / "mine")
    assert (run.state, len(run.records)) == (State.RUNNING, 1)
    recorder.close()
    assert read_run(tmp_path / "mine").state is State.COMPLETED
    recorder.close()
    with pytest.raises(ValueError, match="of an open Recorder, got a Recorder that is closed"):
        recorder.evaluate(2, network(), train_loader)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "mse_men"}, "loss: no such choice, 'mse_men'.* Did you mean mse_mean"),
        ({"loss": nn.MSELoss()}, 'loss: expected a callable .* Use loss="mse_mean"'),
        ({"analyses": ["colapse"]}, "analysis: no such choice, 'colapse'.* Did you mean collapse"),
        ({"analyses": {"robustness": {"examples": 3}}}, "analysis.robustness.examples: no such key"),
    ],
)
def test_option_that_is_refused_leaves_nothing(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ncexp.Recorder(tmp_path / "mine", **{**OPTIONS, **options})
    assert not (tmp_path / "mine").exists()


def test_configuration_names_the_parts(tmp_path: Path) -> None:
    raw = yaml.safe_load(record(tmp_path, range(1, 2)).config.read_text())
    of_class = {"name": "Sequential", "_target_": "torch.nn.modules.container.Sequential"}
    assert raw["architecture"] == of_class | {"num_features": 12, "num_parameters": 6 * 12 + 12 + 24 + 12 * 4 + 4}
    assert raw["dataset"].pop("_target_") == "torch.utils.data.dataset.TensorDataset"
    assert raw["dataset"] == {"name": "TensorDataset", "num_classes": 4, "num_train": 90, "input_shape": [6]}
    assert raw["recorder"] == {"classifier": "last"}
