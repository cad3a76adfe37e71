"""One run directory as an MLflow run: all of it, once, with its own times, whatever was sent before."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from commands import sync
from mlflow.tracking import MlflowClient
from synthetic_sweep import EPOCHS, curves, write_journals, write_run, write_status
from tracking_stores import commit, journalled, statuses, stored

from ncexp.config import Component, ConfigError
from ncexp.record import Journal, RunDirectory, State
from ncexp.record.measurements import begin
from ncexp.tracking import prepare, tracking_uri
from ncexp.tracking.upload import page_of, send


@pytest.fixture(autouse=True)
def embedded_store(tmp_path: Path, store_template: Path) -> None:
    """MLflow takes seconds to make the tables: once for all tests here, but where the making itself is tested."""
    shutil.copy(store_template, tmp_path / "mlflow.db")


def _send(path: Path) -> str:
    return send(path, tracking_uri(None, path.parent), "digits")


def _only_run(folder: Path) -> Any:
    client = MlflowClient(tracking_uri(None, folder))
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return run


@pytest.fixture
def sent_values(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(name, step) of every number that goes to MLflow."""
    sent: list[tuple[str, int]] = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, metrics: Any = (), **others: Any) -> Any:
        sent.extend((metric.key, metric.step) for metric in metrics)
        return log_batch(self, run_id, metrics=metrics, **others)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    return sent


def _measure(path: Path, options: dict[str, Any], epochs: list[int]) -> Journal:
    """What `ncexp measure analysis=robustness` adds to a run."""
    target = "ncexp.measure.analyses.RobustnessAnalysis"
    component = Component(group="analysis.robustness", name="robustness", target=target, options=options)
    journal = begin(path / "measurements", "robustness", component)
    for epoch in epochs:
        journal.put({"epoch": epoch, "test/robustness/ratio": 0.1 * epoch, "test/robustness/not_crossed": 0.0})
    return journal


@pytest.mark.slow
def test_send_stores_every_value_once_however_often_it_is_repeated(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    records = list(curves(0.02, 0, 1.0, list(range(1, 60))))
    records[3]["train/collapse/nc1_snr"] = float("inf")
    write_journals(path, records)
    assert _send(path) == "sent"
    assert _send(path) == "up to date"
    (path / "mlflow.json").unlink()  # killed before it could note what it had sent
    assert _send(path) == "sent"
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")]


@pytest.mark.slow
def test_send_measurements_added_later_alone(tmp_path: Path, sent_values: list[tuple[str, int]]) -> None:
    """What was measured anew replaces the run."""
    path = write_run(tmp_path)
    journal = _measure(path, {"num_examples": 100}, [1, 8])
    _send(path)
    key = _measure(path, {"num_examples": 7}, []).path.stem.rpartition("_")[2]
    for options, epochs, family in ((100, [3, 350], "robustness"), (7, [1], f"robustness.{key}")):
        sent_values.clear()
        _measure(path, {"num_examples": options}, epochs)  # some amid the journal
        assert _send(path) == "sent"
        assert {*sent_values} == {(f"test/{family}/{name}", one) for name in ("ratio", "not_crossed") for one in epochs}
    assert journal.epochs() == {1, 3, 8, 350}
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert _send(path) == "up to date"
    journal.put({"epoch": 8, "test/robustness/ratio": 0.9, "test/robustness/not_crossed": 0.0}, replace=True)
    assert _send(path) == "sent"
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert len(statuses(tmp_path / "mlflow.db")) == 1


@pytest.mark.slow
def test_send_run_can_be_filtered_and_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, state=State.DIVERGED)
    (tmp_path / "sweeps" / "quick_1" / "runs").mkdir(parents=True)
    (tmp_path / "sweeps" / "quick_1" / "runs" / f"003_{path.name}").symlink_to(path)
    _send(path)
    found, client = _only_run(tmp_path), MlflowClient(tracking_uri(None, tmp_path))
    chosen = {"dataset": "digits", "architecture": "resnet", "loss": "mse", "lr": "0.02", "seed": "0"}
    assert found.data.params.items() >= chosen.items() | {("precision", "fp32"), ("optimizer.schedule.decays", "2")}
    tags = {"state": "diverged", "sweep": "quick_1", "reason": "non-finite loss", "directory": path.name}
    assert found.data.tags.items() >= tags.items()
    last = Journal(next(path.glob("measurements/errors_*.jsonl"))).read()[-1]
    assert "resnet** on **digits**" in found.data.tags["mlflow.note.content"]
    assert f"| test error | {last['test/error']:.4g} |" in found.data.tags["mlflow.note.content"]
    assert found.data.metrics["test/error"] == last["test/error"]
    assert found.info.start_time == 1_700_000_000_000
    assert found.inputs is not None
    assert len(found.inputs.dataset_inputs[0].dataset.digest) == 16
    files = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    names = ("config.yaml", "facts.json", "environment.json", "status.json", "identity.json", "clock.jsonl")
    assert files == {*names, "training.jsonl", "measurements"}
    journals = {artifact.path for artifact in client.list_artifacts(found.info.run_id, "measurements")}
    assert journals == {str(one.relative_to(path)) for one in path.glob("measurements/[!.]*")}


@pytest.mark.slow
def test_send_resumed_run_is_the_same_mlflow_run_and_loses_its_reason(tmp_path: Path) -> None:
    path = write_run(tmp_path, state=State.INTERRUPTED)
    commit(path, EPOCHS[5])
    write_status(path, State.INTERRUPTED, message="SIGTERM")
    _send(path)
    first = _only_run(tmp_path)
    assert (first.data.tags["reason"], first.data.tags["epoch"]) == ("SIGTERM", str(EPOCHS[5]))
    write_run(tmp_path)
    _send(path)
    last = _only_run(tmp_path)
    assert last.info.run_id == first.info.run_id
    assert "reason" not in last.data.tags
    assert last.data.tags["epoch"] == "350"
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")]


@pytest.mark.slow
def test_send_begins_anew_in_another_store_and_respects_deletion(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    _send(path)
    database = sqlite3.connect(tmp_path / "mlflow.db")
    for table in ("metrics", "latest_metrics", "params", "tags", "runs"):  # as a store that was made anew has it
        database.execute(f"delete from {table}")
    database.commit()
    assert _send(path) == "sent"
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    page = page_of(RunDirectory(path), tracking_uri(None, tmp_path))
    assert page is not None
    address, question, query = page.partition("?")
    assert (question, query) == ("?", "workflowType=machine_learning")  # else MLflow shows a page for language models
    MlflowClient(tracking_uri(None, tmp_path)).delete_run(address.rpartition("/")[2])
    assert _send(path) == "deleted"


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ["", '{"embedded": {"run', "[1]", '{"embedded": 3}', '{"embedded": {"run_id": 0}}', "\0"]
)
def test_send_damaged_memory_is_set_aside_and_nothing_is_doubled(tmp_path: Path, content: str) -> None:
    path = write_run(tmp_path, epochs=[1, 2, 3])
    _send(path)
    (path / "mlflow.json").write_text(content)
    assert _send(path) == "sent"
    assert (path / "mlflow.json.damaged").read_text() == content
    assert stored(tmp_path / "mlflow.db") == journalled([path])


@pytest.mark.slow
def test_send_says_how_to_restore_a_deleted_experiment_and_then_sends_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path, rate=0.01)
    _send(first)
    client = MlflowClient(tracking_uri(None, tmp_path))
    (deleted,) = [one.experiment_id for one in client.search_experiments() if one.name == "digits"]
    client.delete_experiment(deleted)
    assert _send(first) == "deleted"
    others = [write_run(tmp_path, rate=rate) for rate in (0.02, 0.03)]
    assert sync([str(tmp_path)]) == 1
    words = (
        r"got 'digits', which was deleted in MLflow\. Restore it: `(.*)`, or name another: tracking\.experiment=NAME\."
    )
    found = re.search(f"not sent: tracking.experiment: expected one that is there, {words}", capsys.readouterr().out)
    assert found
    with pytest.raises(ConfigError, match="which was deleted in MLflow"):
        prepare(tracking_uri(None, tmp_path), ["digits"], tmp_path)
    assert {one.name for one in client.search_experiments()} == {"Default"}
    here = str(Path(mlflow.__file__).parents[4] / "bin")  # with the command `mlflow` of this environment
    subprocess.run(found[1], shell=True, check=True, env={**os.environ, "PATH": f"{here}:{os.environ['PATH']}"})
    assert sync([str(tmp_path)]) == 0
    assert stored(tmp_path / "mlflow.db") == journalled([first, *others])


# Moved and copied.


def _sync(folder: Path) -> None:
    """In a process of its own, as after a move: MLflow's client remembers where the files of a run lie."""
    code = "import sys; from ncexp.cli import main; sys.exit(main(['sync', *sys.argv[1:]]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


@pytest.mark.slow
def test_send_moved_outputs_go_on_with_their_own_store_and_files(tmp_path: Path, store_template: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "it's a new place"
    old.mkdir()
    shutil.copy(store_template, old / "mlflow.db")
    path = write_run(old, state=State.INTERRUPTED)
    commit(path, EPOCHS[5])
    _send(path)
    assert str(tmp_path) not in (path / "mlflow.json").read_text()
    run_id = _only_run(old).info.run_id
    old.rename(new)
    path = write_run(new)
    _sync(new)
    run = _only_run(new)
    assert run.info.run_id == run_id
    assert run.info.artifact_uri == (new / "mlflow_artifacts/digits" / run_id / "artifacts").as_uri()
    assert stored(new / "mlflow.db") == journalled([path])
    assert not old.exists()
    kept = new / "mlflow_artifacts/digits" / run_id / "artifacts/training.jsonl"
    assert kept.read_bytes() == (path / "training.jsonl").read_bytes()
    later = write_run(new, rate=0.03)  # a run that begins after the move
    _sync(new)
    assert not old.exists()
    assert stored(new / "mlflow.db") == journalled([path, later])


@pytest.mark.slow
def test_send_copied_outputs_write_nothing_to_the_original(tmp_path: Path, store_template: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(store_template, old / "mlflow.db")
    path = write_run(old)
    _send(path)
    shutil.copytree(old, new)
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    copied = new / path.name
    _measure(copied, {"num_examples": 100}, [1])
    _sync(new)
    assert stored(new / "mlflow.db") == journalled([copied])
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize("with_memory", [True, False], ids=["with mlflow.json", "without"])
def test_send_moved_and_copied_runs_are_one_run_on_a_server(
    tmp_path: Path, mlflow_server: Any, with_memory: bool
) -> None:
    experiment = f"digits {with_memory}"
    path = write_run(tmp_path / "old", seed=int(with_memory), state=State.INTERRUPTED)
    commit(path, EPOCHS[5])
    send(path, mlflow_server.uri, experiment)
    (tmp_path / "old").rename(tmp_path / "moved")
    if not with_memory:
        (tmp_path / "moved" / path.name / "mlflow.json").unlink()
    write_run(tmp_path / "moved", seed=int(with_memory))
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    for folder in ("moved", "copy"):
        send(tmp_path / folder / path.name, mlflow_server.uri, experiment)
    client = MlflowClient(mlflow_server.uri)
    where = client.get_experiment_by_name(experiment)
    assert where is not None
    assert len(client.search_runs([where.experiment_id])) == 1
    assert stored(mlflow_server.database).items() >= journalled([tmp_path / "moved" / path.name]).items()


@pytest.mark.slow
def test_send_original_and_copy_are_one_run_until_the_copy_is_its_own(tmp_path: Path, mlflow_server: Any) -> None:
    """Both train the same epochs: the values are the same, the times are not, so their points stand there twice."""

    def points(path: Path, where: str) -> list[tuple[int, float]]:
        send(path, mlflow_server.uri, where)
        found = client.search_runs([client.get_experiment_by_name(where).experiment_id])  # type: ignore[union-attr]
        numbers.append(len(found))
        history = client.get_metric_history(found[0].info.run_id, "fit/loss")
        return sorted((one.step, one.value) for one in history)

    client, numbers = MlflowClient(mlflow_server.uri), list[int]()
    original = write_run(tmp_path / "original", seed=77, state=State.INTERRUPTED)
    commit(original, 5)
    assert len(points(original, "copied")) == 5
    copy = tmp_path / "copy" / original.name
    commit(original, 350)
    shutil.copytree(original.parent, copy.parent)
    for path in (original, copy):
        commit(path, 8)
        lines = [json.loads(line) for line in (path / "clock.jsonl").read_text().splitlines()]
        later = [{**line, "timestamp_ms": line["timestamp_ms"] + 1000 * (path == copy)} for line in lines]
        (path / "clock.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:5] + later[5:]))
    once = points(original, "copied")
    assert [step for step, _ in once] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert points(copy, "copied") == sorted([*once, *once[5:]])
    assert numbers == [1, 1, 1]
    for name in ("identity.json", "mlflow.json"):
        (copy / name).unlink()
    send(copy, mlflow_server.uri, "copied")
    where = client.get_experiment_by_name("copied")
    assert where is not None
    assert len(client.search_runs([where.experiment_id])) == 2
