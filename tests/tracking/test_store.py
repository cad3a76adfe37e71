"""Stores: made once, refused early where they cannot be, given up within a bound where they do not respond."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from synthetic_sweep import write_run, write_status
from tracking_stores import cover, faulty_server, free_port, hanging_socket, journalled, statuses, stored

from ncexp.cli.sync import main as sync
from ncexp.record import RunDirectory, State, write_json
from ncexp.tracking import check_uri, prepare, sync_runs, tracking_uri
from ncexp.tracking.address import BOUND_S, CALL_S, RESPONSE_S, outputs_of
from ncexp.tracking.store import CLIENT_SETTINGS


@pytest.mark.parametrize(
    "uri",
    [
        *("", "abc", "foo://bar", "outputs/mlflow.db", "http://", "http://host:port", "sqlite:///", "sqlite://"),
        *("file:///tmp/x", "https:host", "postgresql://", "http://host:99999"),
    ],
)
def test_check_uri_refuses_what_no_store_has(uri: str) -> None:
    with pytest.raises(ValueError, match=r"tracking\.uri: expected http://HOST:PORT"):
        check_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        *(None, "http://127.0.0.1:5000", "https://mlflow.example.org/of/us", "sqlite:////somewhere/mlflow.db"),
        *("postgresql://u:p@host/mlflow", "postgresql+psycopg2://mlflow@/mlflow?host=/socket", "mysql+pymysql://h/m"),
    ],
)
def test_check_uri_takes_servers_and_databases(uri: str | None) -> None:
    check_uri(uri)


def test_outputs_of_simulation_is_the_folder_of_the_trainings() -> None:
    assert outputs_of(Path("/a/run_1")) == outputs_of(Path("/a/simulations/path_1")) == Path("/a")


@pytest.mark.slow
def test_prepare_makes_each_experiment_once(tmp_path: Path) -> None:
    uri = tracking_uri(None, tmp_path)
    for _ in range(2):
        prepare(uri, ["digits", "mnist"], tmp_path)
    names = sorted(experiment.name for experiment in MlflowClient(uri).search_experiments())
    assert names == ["Default", "digits", "mnist"]


def test_prepare_refuses_a_file_that_is_no_store_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, but long enough to have a header of one" * 99)
    with pytest.raises(RuntimeError, match=r"mlflow\.db: expected MLflow's SQLite store, got file is not a database"):
        prepare(tracking_uri(None, tmp_path), ["digits"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("healthy", [False, True], ids=["hangs", "hangs but for its health"])
def test_hanging_server_costs_a_sweep_and_a_sync_one_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: bool
) -> None:
    """Each waits for one request: RESPONSE_S for a server's health, CALL_S for anything else, without a repetition."""
    assert BOUND_S == RESPONSE_S + CALL_S == 15  # as docs/tracking.md states
    assert (CLIENT_SETTINGS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"], CLIENT_SETTINGS["MLFLOW_HTTP_REQUEST_TIMEOUT"]) == (
        "0",
        "10",
    )
    paths = [write_run(tmp_path, rate=rate) for rate in (0.01, 0.02, 0.03)]
    hung: list[str] = []
    with faulty_server(None, healthy, hung) as uri:
        with pytest.raises(Exception, match=r"responds within 5 s|timed out|Timeout"):
            prepare(uri, ["digits"], tmp_path)
        assert len(hung) == 1
        assert sync([*map(str, paths), "--uri", uri]) == 1
        assert len(hung) == 2
    said = capsys.readouterr().out
    assert "3 not sent" in said
    assert len(said.splitlines()) == 2


def test_database_server_that_is_not_there_is_given_up_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="expected a server that responds within 5 s"):
        prepare(f"postgresql://127.0.0.1:{free_port()}/mlflow", ["digits"], tmp_path)


@pytest.mark.parametrize("kind", ["http", "postgresql", "mysql+pymysql"])
def test_server_that_accepts_connections_and_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("ncexp.tracking.address.RESPONSE_S", 0.2)  # nobody responds, however long one waits
    with hanging_socket() as port, pytest.raises(ConnectionError, match="expected a server that responds within 5 s"):
        prepare(f"{kind}://127.0.0.1:{port}/mlflow", ["digits"], tmp_path)


@pytest.mark.slow
def test_sync_brings_all_states_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store_template: Path
) -> None:
    shutil.copy(store_template, tmp_path / "mlflow.db")
    done = write_run(tmp_path, rate=0.01)
    killed = write_run(tmp_path, rate=0.02, state=State.RUNNING)
    cover(killed, 8)
    untracked = write_run(tmp_path, rate=0.03, enabled=False)
    assert sync([str(tmp_path)]) == 0
    assert "1 not tracked (tracking.enabled=false), 2 sent" in capsys.readouterr().out
    expected = journalled([done]) | journalled([killed], through=8)
    assert stored(tmp_path / "mlflow.db") == expected
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed"), ("KILLED", "killed")]
    assert sync([str(tmp_path)]) == 0
    assert "2 up to date" in capsys.readouterr().out
    write_status(killed, State.COMPLETED)
    assert sync([str(killed), str(untracked)]) == 0
    assert statuses(tmp_path / "mlflow.db") == [("FINISHED", "completed"), ("FINISHED", "completed")]
    assert stored(tmp_path / "mlflow.db") == journalled([done, killed])


NO_JSON = ["", '{"state": "compl', "\0[", "[1]\n"]
OTHER = '{"state": "well", "epoch": 1}\n'
#: File → contents that it cannot have. Half a line of a journal is what a kill leaves.
DAMAGED = {
    "status.json": [*NO_JSON, OTHER],
    "identity.json": [*NO_JSON, OTHER],
    "facts.json": NO_JSON,
    "config.yaml": [*NO_JSON, OTHER],
    "clock.jsonl": ["[1]\n", OTHER],
}


@pytest.mark.slow
def test_sync_names_each_damaged_run_and_carries_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store_template: Path
) -> None:
    shutil.copy(store_template, tmp_path / "mlflow.db")
    damages = [(file, content) for file, some in DAMAGED.items() for content in some]
    *damaged, last = (write_run(tmp_path, seed=seed) for seed in range(len(damages) + 1))
    for path, (file, content) in zip(damaged, damages, strict=True):
        (path / file).write_text(content)
    assert sync([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    for path, (file, content) in zip(damaged, damages, strict=True):
        assert f"{path / file}: expected" in said, content
    assert f"{len(damages)} not sent, 1 sent" in said
    assert stored(tmp_path / "mlflow.db") == journalled([last])


def test_sync_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync([str(tmp_path)]) == 2
    assert "expected run directories, got none" in capsys.readouterr().err


@pytest.mark.slow
def test_sync_takes_simulations_along(tmp_path: Path, store_template: Path) -> None:
    shutil.copy(store_template, tmp_path / "mlflow.db")
    training = write_run(tmp_path)
    path = tmp_path / "simulations" / "central_path_seed0_0123456789"
    chosen = {"name": "central_path", "_target_": "ncexp.simulations.central_path.random_features", "num_classes": 4}
    raw = {"simulation": chosen, "seed": 0, "tracking": {"enabled": True, "uri": None, "experiment": None}}
    write_json(path / "config.yaml", raw)  # JSON is YAML
    write_status(path, State.COMPLETED)
    beside = {"analysis": "simulation", "version": 1, "began": 1.0, "target": "a.b", "options": {}}
    write_json(path / "measurements" / "simulation_0123456789.json", beside)
    (path / "measurements" / "simulation_0123456789.jsonl").write_text('{"epoch": 0, "train/theory/snr_1": 0.5}\n')
    counts = sync_runs([tmp_path])
    assert counts == {"sent": 2}
    started = 1_700_000_000_000
    sent = stored(tmp_path / "mlflow.db")
    assert sent.pop("0123456789") == {"train/theory/snr_1": [(0, 0.5, started)]}
    assert sent == journalled([training])
    names = {one.name for one in MlflowClient(tracking_uri(None, tmp_path)).search_experiments()}
    assert names == {"Default", "digits", "central_path"}
    assert sync_runs([path]) == sync_runs([path.parent]) == {"up to date": 1}
    assert RunDirectory(path).tracking.exists()
