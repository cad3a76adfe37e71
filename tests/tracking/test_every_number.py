"""MLflow gets every number of every journal: a real run, measured again later, and its way back into a folder."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from commands import report
from mlflow.tracking import MlflowClient
from rich.console import Console
from support import Compose, compose
from synthetic_sweep import write_run
from tracking_stores import commit, journalled, stored

from ncexp.launching.task import attempt
from ncexp.record import RunDirectory, State, read_json, read_run
from ncexp.tracking import sync_runs, tracking_uri
from ncexp.tracking.content import milestones
from ncexp.tracking.download import download_records


@pytest.mark.slow
def test_every_number_of_every_journal_is_in_mlflow(
    composed: Compose, console: Console, outputs: Path, store_template: Path
) -> None:
    outputs.mkdir()
    shutil.copy(store_template, outputs / "mlflow.db")
    raw = composed(
        *("dataset.separation=12", "epochs=16", "evaluate_at=[1,2,6,10,12,14]", "keep.checkpoints=evaluated"),
        *("analysis=[collapse,decisions,decomposition,central_path,layers]", "optimizer.lr=0.05"),
    )
    assert attempt(raw, console) is State.COMPLETED
    (path,) = outputs.glob("gaussian*")
    assert stored(outputs / "mlflow.db") == journalled([path])
    _check_derived(path, outputs / "mlflow.db")

    chosen = [f"run={path}", f"outputs={outputs}", "analysis=robustness", "analysis.robustness.num_examples=5"]
    assert attempt(compose("measure", chosen), console) is State.COMPLETED
    assert attempt(compose("measure", [*chosen, "analysis.robustness.sample_seed=1"]), console) is State.COMPLETED
    expected = journalled([path])
    assert stored(outputs / "mlflow.db") == expected
    assert len([name for name in expected[path.name.rpartition("_")[2]] if "/robustness" in name]) == 4
    _check_derived(path, outputs / "mlflow.db")
    assert sync_runs([outputs]) == {"up to date": 1}


def _check_derived(path: Path, database: Path) -> None:
    """The closed form's fit, and what sums the run up, are there, with the same number as in the record."""
    saved, points = read_run(path), stored(database, derived=True)[path.name.rpartition("_")[2]]
    found = {(name, step): value for name, ones in points.items() for step, value, _ in ones}
    expected = {(name, int(saved.records[-1]["epoch"])): value for name, value in milestones(saved).items()}
    for record in read_json(path / "path_fit.json")["records"]:
        expected |= {(name, record["epoch"]): v for name, v in record.items() if name != "epoch" and v is not None}
    assert {"train/path_fit/time", "train/path_fit/predicted_3", "train/path_fit/explained"} <= {n for n, _ in expected}
    assert found == expected


@pytest.mark.slow
def test_every_number_of_a_simulation_is_in_mlflow(
    tmp_path: Path, console: Console, store_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncexp.cli.simulate import simulate

    monkeypatch.setattr("ncexp.report.report_simulation", lambda *_: None)  # figures take seconds
    shutil.copy(store_template, tmp_path / "mlflow.db")
    few = ["simulation.num_classes=3", "simulation.num_features=4", "simulation.examples_per_class=6"]
    raw = compose("simulate", [f"outputs={tmp_path}", *few, "simulation.num_times=5"])
    assert simulate(raw, console) is State.COMPLETED
    (path,) = (tmp_path / "simulations").iterdir()
    (points,) = stored(tmp_path / "mlflow.db").values()
    sent = {(name, step): value for name, ones in points.items() for step, value, _ in ones}
    assert sent == {
        (name, int(record["epoch"])): value
        for record in read_run(path).records
        for name, value in record.items()
        if name != "epoch" and value == value
    }
    write_run(tmp_path)
    assert sync_runs([tmp_path]) == {"sent": 1, "up to date": 1}  # trainings and simulations
    names = {one.name for one in MlflowClient(tracking_uri(None, tmp_path)).search_experiments()}
    assert names == {"Default", "digits", "central_path"}
    assert sync_runs([path]) == sync_runs([path.parent]) == {"up to date": 1}


@pytest.mark.slow
def test_download_gives_the_same_numbers_as_the_folder(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "runs", rate=0.01), write_run(tmp_path / "runs", rate=0.02, state=State.INTERRUPTED)]
    commit(paths[1], 8)
    sync_runs([tmp_path / "runs"])
    assert download_records(tracking_uri(None, tmp_path / "runs"), ["digits"], tmp_path / "back") == []
    for path in paths:
        (back,) = tmp_path.glob(f"back/*/{path.name}")
        there, here = read_run(back), read_run(path)
        for name in ("records", "training", "state", "facts"):
            assert getattr(there, name) == getattr(here, name)
        assert RunDirectory(back).identity() == RunDirectory(path).identity()


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> str:
    """The URI of a store with one run."""
    folder = tmp_path_factory.mktemp("sent")
    shutil.copy(store_template, folder / "mlflow.db")
    sync_runs([write_run(folder)])
    return tracking_uri(None, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../outside", "/anywhere", "..", "", "a/b", "x" * 300, "a\nb", "a\x1b[2J"], ids=ascii)
def test_download_refuses_a_directory_that_the_store_names_elsewhere(tmp_path: Path, sent: str, name: str) -> None:
    client = MlflowClient(sent)
    (found,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    client.set_tag(found.info.run_id, "directory", name)
    (fault,) = download_records(sent, [], tmp_path / "back")
    assert fault.startswith(f"run {found.info.run_id}: expected the name of a directory in its tag `directory`")
    assert not (tmp_path / "outside").exists()


@pytest.mark.slow
def test_download_takes_files_only_and_follows_no_link_out_of_the_store(tmp_path: Path, store_template: Path) -> None:
    path = write_run(tmp_path / "runs")
    shutil.copy(store_template, tmp_path / "runs" / "mlflow.db")
    sync_runs([path])
    uri = tracking_uri(None, tmp_path / "runs")
    (config,) = (tmp_path / "runs" / "mlflow_artifacts").rglob("config.yaml")
    config.rename(tmp_path / "elsewhere.yaml")
    config.symlink_to(tmp_path / "elsewhere.yaml")
    (fault,) = download_records(uri, [], tmp_path / "back")
    assert re.fullmatch(r"run \w+: .*config\.yaml.*", fault)
    assert list((tmp_path / "back").rglob("config.yaml")) == []
    config.unlink()
    (config / "inner").mkdir(parents=True)
    (config / "inner" / "config.yaml").write_text("x: 1")
    (fault,) = download_records(uri, [], tmp_path / "again")
    assert re.fullmatch(r"run \w+: expected a file as its artifact config\.yaml, got something else.*", fault)


@pytest.mark.slow
def test_report_from_a_store_names_what_is_wrong_and_shows_the_others(
    tmp_path: Path, store_template: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged status, a name that leaves the folder, a run that is there twice, a host that nobody named."""
    monkeypatch.setattr("ncexp.report.whole.draw_all", lambda *_: [])
    runs, to = tmp_path / "runs", tmp_path / "report"
    for seed in range(4):
        write_run(runs, seed=seed, epochs=[1, 2, 3])
    shutil.copy(store_template, runs / "mlflow.db")
    sync_runs([runs])
    uri = tracking_uri(None, runs)
    client = MlflowClient(uri)
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    damaged, named, twice, elsewhere = found
    files = {run.info.run_id: Path(run.info.artifact_uri.removeprefix("file://")) for run in found}
    (files[damaged.info.run_id] / "status.json").write_text("{")
    config = files[named.info.run_id] / "config.yaml"
    raw = yaml.safe_load(config.read_text())
    raw["loss"]["name"] = "x/../../../outside"
    config.write_text(yaml.safe_dump(raw))
    copy = client.create_run(twice.info.experiment_id, start_time=1, tags=twice.data.tags)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host = f"http://127.0.0.1:{listener.getsockname()[1]}/files"
        with closing(sqlite3.connect(runs / "mlflow.db")) as database, database:
            database.execute("update runs set artifact_uri = ? where run_uuid = ?", [host, elsewhere.info.run_id])
        assert report(["--uri", uri, "--to", str(to)]) == 1
        with pytest.raises(BlockingIOError):
            listener.accept()
    said = capsys.readouterr().err
    assert re.search(rf"left out: run {damaged.info.run_id}/.*status\.json: expected JSON", said)
    assert re.search(rf"left out: run {named.info.run_id}/.*config\.yaml: expected as loss\.name 1 to 64 letters", said)
    assert f"left out: run {copy.info.run_id}: expected one run of key {twice.data.tags['key']}" in said
    assert f"left out: run {elsewhere.info.run_id}: {uri}: expected a store that keeps its files itself, got " in said
    assert host in said
    assert tempfile.gettempdir() not in re.sub(re.escape(uri), "", said)
    assert said.count("left out: ") == 4
    assert "1 run, 1 setting" in (to / "report.html").read_text()


@pytest.mark.parametrize("uri", ["abc", "foo://bar", ""])
def test_report_refuses_a_uri_that_no_store_has(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(["--uri", uri]) == 2
    assert "uri: expected http://HOST:PORT" in capsys.readouterr().err
