"""One run from configuration to figures: what it leaves behind, and that being stopped leaves no trace."""

from __future__ import annotations

import inspect
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from rich.console import Console
from support import SMALL, Compose, compose, journals, trained
from synthetic_sweep import write_run
from tracking_stores import journalled, stored

from ncexp.config import ConfigError, check
from ncexp.launching.task import attempt
from ncexp.main import run
from ncexp.record import Busy, RunDirectory, read_run
from ncexp.record.console import literal_console
from ncexp.tracking import sync_runs
from ncexp.training import Training

#: Of a run that never has an epoch without training error.
FIGURES = {
    f"{name}{end}"
    for name in ("neural_collapse", "mse_decomposition", "central_path", "simplex", "cosines", "spectra")
    for end in (".png", ".pdf")
}
#: A package of somebody else's.
THEIRS = """
from torch import nn
class Theirs(nn.Module):
    def __init__(self, input_shape, num_classes, width: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(input_shape[0], width), nn.Tanh())
        self.classifier = nn.Linear(width, num_classes, bias=False)
    def forward(self, x):
        features = self.body(x)
        return self.classifier(features), features
"""
#: A process that kills itself without warning at the n-th call of a function; module, attribute and n are arguments.
KILLED = """
import importlib, os, signal, sys
module, path, count = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
owner = importlib.import_module(module)
*outer, attribute = path.split(".")
for part in outer:
    owner = getattr(owner, part)
original, calls = getattr(owner, attribute), [0]
def counted(*args, **kwargs):
    calls[0] += 1
    if calls[0] == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(owner, attribute, counted)
from ncexp.__main__ import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds: they are drawn only for tests that ask for this fixture by name, and in other processes."""
    if "drawn" not in inspect.signature(request.function).parameters:
        monkeypatch.setattr("ncexp.report.run.draw_run", lambda directory: [])


def said(console: Console) -> str:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.slow
def test_run_leaves_everything_behind(drawn: None, composed: Compose, console: Console, outputs: Path) -> None:
    raw = composed()
    assert attempt(raw, console) == "completed"
    directory = RunDirectory(check(raw).directory)
    records = read_run(directory.path).records
    assert [record["epoch"] for record in records] == [1, 2, 4, 6]
    names = {"fit/loss", "train/loss", "train/error", "test/collapse/nc1_trace", "test/decisions/least_squares_error"}
    assert names | {"train/mse/loss_nc1", "test/mse/loss_ls_perp", "train/path/snr_1"} <= records[0].keys()
    assert directory.state() == "completed"
    figures = [*directory.figures.glob("[!.]*")]
    assert {path.name for path in figures} == FIGURES
    heads = {path.suffix: path.read_bytes()[:4] for path in figures}
    assert heads == {".png": b"\x89PNG", ".pdf": b"%PDF"}
    facts = json.loads(directory.facts.read_text())
    assert (facts["num_train"], facts["num_test"], facts["num_features"]) == (80, 40, 8)
    assert facts["ridge_weight"] == raw["optimizer"]["weight_decay"]
    for words in (
        str(directory.path), "trains    6 epochs in batches of 32; sgd, lr 0.0184202, weight_decay 0.002",
        "keeps     4 snapshots of ", f"sqlite:///{outputs}/mlflow.db",
        "http://ncexp.localhost:5000/#/experiments/1/runs/",
    ):  # fmt: skip
        assert words in said(console)
    assert not (outputs / "mlruns").exists()
    assert not Path("mlruns").exists()
    assert stored(outputs / "mlflow.db") == journalled([directory.path])
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("gaussian_mixture")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], "params.loss = 'mse' and params.lr = '0.018420157'")
    tags = found.data.tags
    assert (found.info.status, tags["state"], tags["key"]) == ("FINISHED", "completed", check(raw).key)
    assert found.data.params["architecture.hidden"] == "[16, 8]"
    kept = {artifact.path for artifact in client.list_artifacts(found.info.run_id, "figures")}
    assert kept == {f"figures/{name}" for name in FIGURES}


@pytest.mark.slow
def test_run_same_seed_gives_same_bytes_and_another_other_numbers(
    composed: Compose, console: Console, tmp_path: Path
) -> None:
    found = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        raw = composed(f"outputs={tmp_path / place}", f"seed={seed}", "tracking.enabled=false", "epochs=2")
        run(raw, console)
        found.append(journals(check(raw).directory))
    assert found[0] == found[1]
    assert len(found[0]) == 6
    assert not {*found[0].values()} & {*found[2].values()}


@pytest.mark.slow
def test_run_completed_trains_nothing_and_rerun_all_trains_anew(
    composed: Compose, console: Console, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = composed()
    attempt(raw, console)
    directory = RunDirectory(check(raw).directory)
    before, clock = journals(directory.path), directory.clock.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.main.assemble", None)  # building anything would fail
        assert attempt(raw, console) == "completed"
    assert (journals(directory.path), directory.clock.path.read_bytes()) == (before, clock)
    assert "nothing to train" in said(console)
    assert attempt(composed("rerun=all"), console) == "completed"
    assert journals(directory.path) == before
    assert directory.clock.path.read_bytes() != clock
    assert stored(outputs / "mlflow.db") == journalled([directory.path])


@pytest.mark.slow
def test_same_command_with_another_analysis_trains_nothing_and_adds_it(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_of: list[set[str]] = []

    def note(directory: RunDirectory) -> list[str]:
        """Which numbers there are when the figures are drawn; that takes seconds."""
        drawn_of.append({*read_run(directory.path).records[0]})
        return []

    monkeypatch.setattr("ncexp.report.run.draw_run", note)
    untracked = "tracking.enabled=false"
    more = composed(untracked, "analysis=[collapse,central_path,robustness]")
    raw = composed(untracked, "analysis=[collapse]", "keep.checkpoints=evaluated")
    run(raw, console)
    directory = RunDirectory(check(raw).directory)
    before = journals(directory.path)
    monkeypatch.setattr(Training, "_step", None)
    assert run(more, console) == "completed"
    after = journals(directory.path)
    assert {name: after[name] for name in before} == before
    assert {Path(name).name.partition("_")[0] for name in after.keys() - before.keys()} == {"central", "robustness"}
    assert "test/robustness/ratio" in read_run(directory.path).records[0]
    assert ["train/path/snr_1" in names for names in drawn_of] == [False, True]
    assert run(more, console) == "completed"
    assert journals(directory.path) == after


@pytest.mark.slow
def test_same_command_with_an_analysis_that_has_no_input_says_so(composed: Compose, console: Console) -> None:
    run(composed("tracking.enabled=false", "keep.checkpoints=[]"), console)
    assert run(composed("tracking.enabled=false", "analysis=[robustness]"), console) == "failed"
    printed = said(console)
    assert "robustness: can be had at no epoch; 4 other evaluated epochs have no weights" in printed
    assert "Next time train with keep.checkpoints=evaluated." in printed
    assert run(composed("tracking.enabled=false"), console) == "completed"  # the run itself is well


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "function", "count"),
    [
        ("ncexp.training.loop", "Training._step", 1),
        ("ncexp.training.loop", "Training._step", 5),
        ("ncexp.record.rows", "TrainingRows.write_journals", 3),
        ("ncexp.record.rows", "write_atomically", 3),
        ("ncexp.training.checkpoint", "write_tensors", 1),
        ("ncexp.training.checkpoint", "write_tensors", 3),
        ("ncexp.measure.snapshot", "write_tensors", 2),
        ("ncexp.record.files", "os.fsync", 9),
        ("ncexp.record.files", "os.fsync", 40),
        ("ncexp.report.figures", "draw_figures", 1),
    ],
)
def test_run_killed_anywhere_and_started_again_ends_the_same(
    composed: Compose, console: Console, outputs: Path, tmp_path: Path, module: str, function: str, count: int
) -> None:
    undisturbed = trained(composed(f"outputs={tmp_path / 'undisturbed'}", "tracking.enabled=false"))
    tracked = function in ("TrainingRows.write_journals", "draw_figures")  # a new store takes MLflow ten seconds
    raw = composed(f"tracking.enabled={str(tracked).lower()}")
    words = [*SMALL, f"outputs={outputs}", f"tracking.enabled={str(tracked).lower()}"]
    command = [sys.executable, "-c", KILLED, module, function, str(count), *words]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert attempt(raw, console) == "completed"
    directory = RunDirectory(check(raw).directory)
    assert journals(directory.path) == journals(undisturbed.path)
    if tracked:
        assert stored(outputs / "mlflow.db") == journalled([directory.path])


@pytest.mark.slow
def test_run_asked_to_stop_goes_on_from_the_middle_of_an_epoch(
    composed: Compose, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = trained(composed(f"outputs={tmp_path / 'undisturbed'}", "tracking.enabled=false"))
    raw = composed("tracking.enabled=false")
    step, calls = Training._step, [0]

    def step_and_signal(self: Training, *batch: torch.Tensor) -> None:
        step(self, *batch)
        calls[0] += 1
        if calls[0] == 8:  # three steps an epoch: the second of the third epoch
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", step_and_signal)
        assert run(raw, console) == "interrupted"
    directory = RunDirectory(check(raw).directory)
    assert directory.state() == "interrupted"
    assert run(raw, console) == "completed"
    assert "resumed   in epoch 3, after 2 of its steps" in said(console)
    assert journals(directory.path) == journals(undisturbed.path)


def test_run_that_turns_non_finite_stops_there_and_is_marked_diverged(composed: Compose, console: Console) -> None:
    raw = composed(
        "optimizer.lr=1e6",
        "optimizer/schedule=constant",
        "epochs=50",
        "architecture.batch_norm=false",
        "tracking.enabled=false",
    )
    assert run(raw, console) == "diverged"
    directory = RunDirectory(check(raw).directory)
    status = directory.status()
    assert status is not None
    assert status["epoch"] < 50
    again = io.StringIO()
    assert run(raw, literal_console(file=again, width=200)) == "diverged"  # and is not trained again
    for text in (said(console), again.getvalue()):
        assert "verdict   the same training would diverge again; try optimizer.lr=100000 (a tenth)" in text
        assert "rerun=all" not in text


@pytest.mark.slow
def test_run_that_fails_leaves_traceback_and_state(
    composed: Compose, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = composed("tracking.enabled=false")
    with monkeypatch.context() as patch:
        patch.setattr("ncexp.training.loop.Training._step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(raw, console)
    directory = RunDirectory(check(raw).directory)
    assert directory.state() == "failed"
    assert "ZeroDivisionError" in directory.log.read_text()
    assert run(composed("tracking.enabled=false", "rerun=none"), console) == "failed"
    assert run(raw, console) == "completed"


@pytest.mark.slow
def test_run_leaves_alone_what_another_process_trains(composed: Compose, console: Console) -> None:
    raw = composed("tracking.enabled=false")
    directory = RunDirectory(check(raw).directory)
    with directory.locked(), pytest.raises(Busy, match="expected a directory that no process works on"):
        run(raw, console)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=81"], "batch_size: expected at most the 80 training examples, got 81"),
        (["device=cuda:64"], "device: expected one of"),
        (["architecture=resnet"], "Choose architecture=mlp"),
        (["dataset.num_features=2"], "at least num_classes - 1 = 3, got 2"),
        *(
            (["tracking.enabled=true", f"tracking.uri={uri}"], r"tracking\.uri: expected http")
            for uri in ("abc", "foo://bar", "''")
        ),
    ],
)
def test_run_refuses_what_the_parts_together_cannot_do(
    composed: Compose, console: Console, outputs: Path, overrides: list[str], message: str
) -> None:
    base = [o for o in SMALL if "hidden" not in o or "architecture=resnet" not in overrides]
    with pytest.raises(ConfigError, match=message):
        run(composed(*overrides, base=base), console)
    assert not outputs.exists()


@pytest.mark.slow
def test_run_takes_a_network_from_somebody_elses_package(
    composed: Compose, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_package.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path))
    raw = composed("tracking.enabled=false")
    raw["architecture"] = {"name": "theirs", "_target_": "their_package.Theirs", "width": 12}
    assert run(raw, console) == "completed"
    assert read_run(check(raw).directory).records[-1]["train/mse/identity_residual"] < 1e-12
    raw["architecture"] = {"name": "theirs", "_target_": "their_package.Theirs", "widht": 12}
    with pytest.raises(ConfigError, match=r"no such key. Valid: width. Did you mean width\?"):
        run(raw, console)


@pytest.mark.slow
def test_run_under_a_path_of_odd_signs_prints_it_as_it_is_and_is_tracked(
    drawn: None, composed: Compose, tmp_path: Path
) -> None:
    outputs = tmp_path / "it's [red] a [/x] :x: path"
    raw, text = composed(), io.StringIO()
    raw["outputs"] = str(outputs)
    assert attempt(raw, literal_console(file=text, width=300)) == "completed"
    directory = RunDirectory(check(raw).directory)
    assert f"run       {directory.path}\n" in text.getvalue()
    assert f"tracking  sqlite:///{outputs}/mlflow.db\n" in text.getvalue()
    assert f"figure    {directory.figures}" in text.getvalue()
    assert stored(outputs / "mlflow.db") == journalled([directory.path])
    assert sync_runs([outputs]) == {"up to date": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "state"), [("training", "failed"), ("measuring", "failed"), ("refused measuring", "refused")]
)
def test_what_a_task_raises_is_printed_once_and_as_it_is(
    kind: str, state: str, composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise (ConfigError if state == "refused" else RuntimeError)("of [/x] and [red] :x:")

    raw = composed("tracking.enabled=false")
    monkeypatch.setattr("ncexp.training.loop.Training._step", fail)
    if kind != "training":
        monkeypatch.setattr("ncexp.main.missing_epochs", lambda config: [1])
        monkeypatch.setattr("ncexp.main.measure_stored", fail)
        raw = compose("measure", [f"run={write_run(tmp_path)}", "device=cpu"])
    assert attempt(raw, literal_console()) == state
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("of [/x] and [red] :x:") == 1
