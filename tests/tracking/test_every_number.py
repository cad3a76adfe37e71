"""MLflow gets every number of every journal: a real run, measured again later, and its way back into a folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.tracking import MlflowClient
from rich.console import Console
from support import Compose, compose
from synthetic_sweep import write_run
from tracking_stores import cover, journalled, stored

from ncexp.cli.report import main as report
from ncexp.main import measure, run
from ncexp.record import RunDirectory, State, read_json, read_run
from ncexp.tracking import sync_runs, tracking_uri
from ncexp.tracking.content import outcome
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
    assert run(raw, console) is State.COMPLETED
    (path,) = outputs.glob("gaussian*")
    assert stored(outputs / "mlflow.db") == journalled([path])
    _check_derived(path, outputs / "mlflow.db")

    chosen = [f"run={path}", f"outputs={outputs}", "analysis=robustness", "analysis.robustness.num_examples=5"]
    assert measure(compose("measure", chosen), console) is State.COMPLETED
    assert measure(compose("measure", [*chosen, "analysis.robustness.sample_seed=1"]), console) is State.COMPLETED
    expected = journalled([path])
    assert stored(outputs / "mlflow.db") == expected
    assert len([name for name in expected[path.name.rpartition("_")[2]] if "/robustness" in name]) == 4
    _check_derived(path, outputs / "mlflow.db")
    assert sync_runs([outputs]) == {"up to date": 1}


def _check_derived(path: Path, database: Path) -> None:
    """The closed form's fit, and what sums the run up, are there, with the same number as in the record."""
    fit = read_json(path / "path_fit.json")
    assert fit["fitted"]
    found = {
        (name, step): value
        for name, points in stored(database, derived=True)[path.name.rpartition("_")[2]].items()
        for step, value, _ in points
    }
    saved = read_run(path)
    last = int(saved.records[-1]["epoch"])
    expected = {(name, last): value for name, value in outcome(saved).items()}
    for record in fit["records"]:
        expected |= {(name, record["epoch"]): v for name, v in record.items() if name != "epoch" and v is not None}
    assert {"train/path_fit/time", "train/path_fit/predicted_3", "train/path_fit/explained"} <= {n for n, _ in expected}
    assert found == expected


@pytest.mark.slow
def test_every_number_of_a_simulation_is_in_mlflow(
    tmp_path: Path, console: Console, store_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncexp.cli.simulation import simulate

    monkeypatch.setattr("ncexp.cli.simulation.report_simulation", lambda *_: None)  # figures take seconds
    shutil.copy(store_template, tmp_path / "mlflow.db")
    few = ["simulation.num_classes=3", "simulation.num_features=4", "simulation.examples_per_class=6"]
    raw = compose("simulate", [f"outputs={tmp_path}", *few, "simulation.num_times=5"])
    assert simulate(raw, console) is State.COMPLETED
    (path,) = (tmp_path / "simulations").iterdir()
    values = {
        (name, step): value
        for points in stored(tmp_path / "mlflow.db").values()
        for name, ones in points.items()
        for step, value, _ in ones
    }
    expected = {
        (name, int(record["epoch"])): value
        for record in read_run(path).records
        for name, value in record.items()
        if name != "epoch" and value == value
    }
    assert values == expected


@pytest.mark.slow
def test_download_gives_the_same_numbers_as_the_folder(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / "runs", rate=0.01), write_run(tmp_path / "runs", rate=0.02, state=State.INTERRUPTED)]
    cover(paths[1], 8)
    sync_runs([tmp_path / "runs"])
    # In a process of its own, as on another machine.
    code = (
        "import sys; from pathlib import Path; from ncexp.tracking.download import download_records; "
        "download_records(sys.argv[1], ['digits'], Path(sys.argv[2]))"
    )
    uri = tracking_uri(None, tmp_path / "runs")
    subprocess.run([sys.executable, "-c", code, uri, str(tmp_path / "back")], check=True)
    for path in paths:
        (back,) = tmp_path.glob(f"back/*/{path.name}")
        there, here = read_run(back), read_run(path)
        assert (there.records, there.training, there.state, there.facts) == (
            *(here.records, here.training, here.state, here.facts),
        )
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
    with pytest.raises(ValueError, match="expected the name of a directory in its tag `directory`"):
        download_records(sent, [], tmp_path / "back")
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
    with pytest.raises(RuntimeError, match=r"mlflow.db: .*config\.yaml"):
        download_records(uri, [], tmp_path / "back")
    assert list((tmp_path / "back").rglob("config.yaml")) == []
    config.unlink()
    (config / "inner").mkdir(parents=True)
    (config / "inner" / "config.yaml").write_text("x: 1")
    with pytest.raises(ValueError, match=r"run \w+: expected a file as its artifact config.yaml, got something else"):
        download_records(uri, [], tmp_path / "again")


@pytest.mark.slow
def test_download_refuses_a_name_in_a_configuration_that_a_report_would_write_to(
    tmp_path: Path, store_template: Path
) -> None:
    path = write_run(tmp_path / "runs")
    shutil.copy(store_template, tmp_path / "runs" / "mlflow.db")
    sync_runs([path])
    (config,) = (tmp_path / "runs" / "mlflow_artifacts").rglob("config.yaml")
    raw = yaml.safe_load(config.read_text())
    raw["loss"]["name"] = "x/../../../outside"
    config.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=r"expected as loss\.name in its config\.yaml 1 to 64 letters"):
        download_records(tracking_uri(None, tmp_path / "runs"), [], tmp_path / "back")


@pytest.mark.parametrize("uri", ["abc", "foo://bar", ""])
def test_report_refuses_a_uri_that_no_store_has(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(["--uri", uri]) == 2
    assert "uri: expected http://HOST:PORT" in capsys.readouterr().err
