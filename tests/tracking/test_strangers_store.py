"""What a run's or a store's files name, which somebody else may have written: only places of their own are touched."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from commands import sync
from mlflow.tracking import MlflowClient
from synthetic_sweep import write_run
from tracking_stores import journalled, statuses, stored

from ncexp.record import RunDirectory
from ncexp.tracking import tracking_uri
from ncexp.tracking.download import download_records
from ncexp.tracking.upload import send


@pytest.fixture(autouse=True)
def embedded_store(tmp_path: Path, store_template: Path) -> None:
    """MLflow takes seconds to make the tables: once for all tests here."""
    shutil.copy(store_template, tmp_path / "mlflow.db")


def _send(path: Path) -> str:
    return send(path, tracking_uri(None, path.parent), "digits")


def _in_store(folder: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute(statement, values)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["experiments", "runs"])
def test_send_writes_to_no_place_that_a_strangers_store_names(
    tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, victim = tmp_path, tmp_path / "victim"
    path = write_run(outputs, epochs=[1, 2, 3])
    _send(path)
    column = "artifact_location" if table == "experiments" else "artifact_uri"
    _in_store(outputs, f"update {table} set {column} = ?", victim.as_uri())
    if table == "experiments":
        path = write_run(outputs, seed=1, epochs=[1, 2, 3])
    else:
        (path / "run.log").write_text("what is new")
    assert sync([str(path)]) == 1
    assert f"expected a store that keeps its files itself, got {victim.as_uri()}" in capsys.readouterr().out
    assert not victim.exists()


@pytest.mark.slow
def test_send_overwrites_nothing_through_a_link_in_a_strangers_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_run(tmp_path, epochs=[1, 2, 3])
    _send(path)
    (log,) = (file.with_name("run.log") for file in (tmp_path / "mlflow_artifacts").rglob("config.yaml"))
    (tmp_path / "victim").write_text("mine")
    log.symlink_to(tmp_path / "victim")
    (path / "run.log").write_text("theirs")
    assert sync([str(path)]) == 1
    assert "got a link to" in capsys.readouterr().out
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.slow
def test_send_touches_no_run_of_another_that_the_memory_names(tmp_path: Path) -> None:
    mine, *theirs = (write_run(tmp_path, seed=seed, epochs=[1, 2]) for seed in range(3))
    _send(mine)
    memory = json.loads((mine / "mlflow.json").read_text())
    (theirs[0] / "mlflow.json").write_text(json.dumps(memory))
    (theirs[1] / "mlflow.json").write_text(json.dumps({"embedded": {"run_id": memory["embedded"]["run_id"]}}))
    assert [_send(path) for path in theirs] == ["sent", "sent"]
    assert stored(tmp_path / "mlflow.db") == journalled([mine, *theirs])
    assert [_send(path) for path in (mine, *theirs)] == ["up to date"] * 3


@pytest.mark.slow
def test_replaced_run_that_is_restored_with_its_experiment_counts_no_more(tmp_path: Path) -> None:
    path = write_run(tmp_path, epochs=[1, 2, 3])
    _send(path)
    RunDirectory(path).clear()
    write_run(tmp_path, epochs=[1, 2])
    _send(path)
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert len(statuses(tmp_path / "mlflow.db")) == 1  # the run of the first training is out of the lists
    client = MlflowClient(tracking_uri(None, tmp_path))
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    client.restore_experiment(experiment.experiment_id)
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert download_records(tracking_uri(None, tmp_path), [], tmp_path / "back") == []
    assert len(list((tmp_path / "back").glob("*/*"))) == 1
    _send(path)
    assert stored(tmp_path / "mlflow.db") == journalled([path])
