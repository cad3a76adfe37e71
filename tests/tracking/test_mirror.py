"""One run directory as an MLflow run: all of it, once, with its own times, whatever was sent before."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from synthetic_sweep import EPOCHS, curves, write_journal, write_run, write_status
from tracking_stores import free_port, journalled, statuses, stored

from ncexp.run_directory import RunDirectory
from ncexp.tracking import Mirror, mark_superseded, page_of, prepare, tracking_uri
from ncexp.tracking.sync import main as sync


@pytest.fixture(autouse=True)
def embedded_store(tmp_path: Path, store_template: Path) -> None:
    """MLflow takes seconds to make the tables: once for all tests here, but where the making itself is tested."""
    shutil.copy(store_template, tmp_path / "mlflow.db")


def _mirror(path: Path) -> Mirror:
    return Mirror(path, tracking_uri(None, path.parent), "digits")


def test_send_stores_every_value_once_however_often_it_is_repeated(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    assert _mirror(path).send() == "sent"
    assert _mirror(path).send() == "up to date"
    (path / "mlflow.json").unlink()  # killed before it could note what it had sent
    assert _mirror(path).send() == "sent"
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")]


def test_send_while_training_leaves_out_what_may_be_computed_again(tmp_path: Path) -> None:
    path = write_run(tmp_path, state="running")
    with RunDirectory(path).locked():
        _mirror(path).send(through=5)
        assert {step for step, _, _ in stored(tmp_path / "mlflow.db").popitem()[1]["train/error"]} == {1, 2, 3, 5}
        assert statuses(tmp_path / "mlflow.db") == [("RUNNING", "running")]


def test_send_run_can_be_filtered_and_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, state="diverged")
    (tmp_path / "sweeps" / "quick_1" / "runs").mkdir(parents=True)
    (tmp_path / "sweeps" / "quick_1" / "runs" / f"003_{path.name}").symlink_to(path)
    _mirror(path).send()
    client = MlflowClient(tracking_uri(None, tmp_path))
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    query = (
        "params.dataset = 'digits' and params.architecture = 'resnet' and params.loss = 'mse' and params.lr = '0.02'"
    )
    query += " and params.seed = '0' and tags.state = 'diverged' and tags.sweep = 'quick_1' and tags.key LIKE '%'"
    (found,) = client.search_runs([experiment.experiment_id], query)
    assert found.data.tags["reason"] == "non-finite loss"
    assert "resnet** on **digits**" in found.data.tags["mlflow.note.content"]
    assert found.data.params["optimizer.schedule.decays"] == "2"
    assert found.data.metrics["final/test_error"] == RunDirectory(path).journal.read()[-1]["test/error"]
    assert found.info.start_time == 1_700_000_000_000
    assert len(found.inputs.dataset_inputs[0].dataset.digest) == 16
    files = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert files == {"config.yaml", "facts.json", "environment.json", "status.json", "journal.jsonl", "clock.jsonl"}


def test_send_metric_keys_stay_under_eighty_for_the_default_analyses(tmp_path: Path) -> None:
    from ncexp.tracking.content import is_sent

    modes = [f"path/snr_{mode}" for mode in range(1, 10)]
    checks = ["mse/identity_residual", "mse/test_identity_residual", "path/identity_residual", "path/rank"]
    assert not any(map(is_sent, [*modes, *checks, "epoch"]))
    assert all(map(is_sent, ["path/snr_ratio", "train/nc1_trace", "mse/test_loss_ls_perp"]))


def test_send_infinite_value_and_long_journal(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    records = list(curves(0.02, 0, 1.0, list(range(1, 60))))
    records[3]["train/nc1_snr"] = float("inf")
    write_journal(path, records)
    _mirror(path).send()
    found = stored(tmp_path / "mlflow.db").popitem()[1]
    assert len(found["train/error"]) == 59
    assert found["train/nc1_snr"][3][1] == pytest.approx(1.7976931348623157e308)  # how MLflow stores infinity


def test_send_rerun_takes_the_old_run_out_of_the_lists(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    _mirror(path).send()
    mark_superseded(RunDirectory(path))  # touches no store
    RunDirectory(path).clear()
    write_run(tmp_path, epochs=EPOCHS[:3])
    _mirror(path).send()
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert len(statuses(tmp_path / "mlflow.db")) == 1


def test_send_resumed_run_goes_on_in_the_same_mlflow_run(tmp_path: Path) -> None:
    path = write_run(tmp_path, state="interrupted", epochs=EPOCHS[:6])
    _mirror(path).send()
    page = page_of(RunDirectory(path), tracking_uri(None, tmp_path))
    write_run(tmp_path)
    _mirror(path).send()
    assert page_of(RunDirectory(path), tracking_uri(None, tmp_path)) == page
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed")]


def test_send_begins_anew_in_another_store_and_respects_deletion(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    _mirror(path).send()
    database = sqlite3.connect(tmp_path / "mlflow.db")
    for table in ("metrics", "latest_metrics", "params", "tags", "runs"):  # as a store that was made anew has it
        database.execute(f"delete from {table}")
    database.commit()
    assert _mirror(path).send() == "sent"
    assert stored(tmp_path / "mlflow.db") == journalled([path])
    page = page_of(RunDirectory(path), tracking_uri(None, tmp_path))
    assert page is not None
    MlflowClient(tracking_uri(None, tmp_path)).delete_run(page.rpartition("/")[2])
    assert _mirror(path).send() == "deleted"


def test_send_from_a_cluster_job_never_opens_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path)
    (tmp_path / "mlflow.db").unlink()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(RuntimeError, match="a cluster job does not write an SQLite store"):
        _mirror(path).send()
    assert sync([str(tmp_path)]) == 1
    assert not (tmp_path / "mlflow.db").exists()


def test_prepare_makes_each_experiment_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    uri = tracking_uri(None, tmp_path)
    for _ in range(2):
        prepare(uri, ["digits", "mnist"], tmp_path)
    rows = sqlite3.connect(tmp_path / "mlflow.db").execute("select name from experiments").fetchall()
    assert sorted(rows) == [("Default",), ("digits",), ("mnist",)]


def test_sync_sends_what_is_missing_and_tells_of_killed_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = write_run(tmp_path, rate=0.01)
    killed = write_run(tmp_path, rate=0.02, state="running", epochs=EPOCHS[:4])
    untracked = write_run(tmp_path, rate=0.03, enabled=False)
    with RunDirectory(killed).locked():
        _mirror(killed).send(through=2)
    assert sync([str(tmp_path)]) == 0
    assert "1 not tracked (tracking.enabled=false), 2 sent" in capsys.readouterr().out
    assert stored(tmp_path / "mlflow.db") == journalled([done, killed])
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed"), ("KILLED", "killed")]
    assert sync([str(tmp_path)]) == 0
    assert "2 up to date" in capsys.readouterr().out
    write_status(killed, "completed")
    assert sync([str(killed), str(untracked)]) == 0
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed"), ("FINISHED", "completed")]


def test_sync_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync([str(tmp_path)]) == 2
    assert "expected run directories, got none" in capsys.readouterr().err


def test_sync_asks_a_silent_server_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rate in (0.01, 0.02, 0.03):
        write_run(tmp_path, rate=rate)
    assert sync([str(tmp_path), "--uri", f"http://127.0.0.1:{free_port()}"]) == 1
    said = capsys.readouterr()
    assert "3 not sent" in said.out
    assert len(said.err.splitlines()) == 1
