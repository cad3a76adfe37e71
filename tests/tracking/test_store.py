"""Stores: made once, refused early where they cannot be, given up within a bound where they do not respond."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from commands import sync
from mlflow.tracking import MlflowClient
from support import Compose
from synthetic_sweep import write_run, write_status
from tracking_stores import commit, faulty_server, free_port, hanging_socket, journalled, statuses, stored

from ncexp.config import ConfigError, MeasureConfig, check
from ncexp.launching.plan import configured_stores, prepare_tracking
from ncexp.record import State
from ncexp.tracking import check_uri, prepare, tracking_uri
from ncexp.tracking.address import BOUND_S, CALL_S, RESPONSE_S, check_place, outputs_of, refuse_unnamed, sync_command
from ncexp.tracking.store import CLIENT_SETTINGS, _relocate, connect

#: URIs that no store has, and those of servers, files and databases.
NO_STORES = ["", "abc", "foo://bar", "outputs/mlflow.db", "http://", "http://host:port", "sqlite:///", "sqlite://"]
NO_STORES += ["file:///tmp/x", "https:host", "postgresql://", "http://host:99999"]
STORES = [None, "http://127.0.0.1:5000", "https://mlflow.example.org/of/us", "sqlite:////somewhere/mlflow.db"]
STORES += ["postgresql://u:p@host/db", "postgresql+psycopg2://mlflow@/mlflow?host=/socket", "mysql+pymysql://h/m"]


def test_check_uri_takes_servers_and_databases_and_nothing_else() -> None:
    for uri in STORES:
        check_uri(uri)
    for uri in NO_STORES:
        with pytest.raises(ValueError, match=r"tracking\.uri: expected http://HOST:PORT"):
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
    limits = [CLIENT_SETTINGS[f"MLFLOW_HTTP_REQUEST_{name}"] for name in ("MAX_RETRIES", "TIMEOUT")]
    assert limits == ["0", "10"]
    paths = [write_run(tmp_path, rate=rate) for rate in (0.01, 0.02, 0.03)]
    hung: list[str] = []
    with faulty_server(None, healthy, hung) as uri:
        with pytest.raises(Exception, match=r"responds within 5 s|timed out|Timeout"):
            prepare(uri, ["digits"], tmp_path)
        assert len(hung) == 1
        assert sync([*map(str, paths), "--uri", uri]) == 1
        assert len(hung) == 2
    said = capsys.readouterr().out.splitlines()
    assert (len(said), "3 not sent" in said[-1]) == (2, True)


@pytest.mark.parametrize("kind", ["http", "postgresql", "mysql+pymysql"])
def test_server_that_is_not_there_or_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with pytest.raises(ConnectionError, match="expected a server that responds within 5 s"):
        prepare(f"{kind}://127.0.0.1:{free_port()}/mlflow", ["digits"], tmp_path)
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
    commit(killed, 8)
    untracked = write_run(tmp_path, rate=0.03, enabled=False)
    assert sync([str(tmp_path)]) == 0
    assert "1 not tracked (tracking.enabled=false; --uri STORE sends them), 2 sent" in capsys.readouterr().out
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
#: (file, content that it cannot have). Half a line of a journal is what a kill leaves.
DAMAGES = [("clock.jsonl", "[1]\n"), ("clock.jsonl", OTHER), *(("facts.json", content) for content in NO_JSON)]
DAMAGES += [(f, content) for f in ("status.json", "identity.json", "config.yaml") for content in (*NO_JSON, OTHER)]


@pytest.mark.slow
def test_sync_names_each_damaged_run_and_carries_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store_template: Path
) -> None:
    assert sync([str(tmp_path)]) == 2
    assert "expected run directories, got none" in capsys.readouterr().err
    shutil.copy(store_template, tmp_path / "mlflow.db")
    *damaged, last = (write_run(tmp_path, seed=seed) for seed in range(len(DAMAGES) + 1))
    for path, (file, content) in zip(damaged, DAMAGES, strict=True):
        (path / file).write_text(content)
    assert sync([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    for path, (file, content) in zip(damaged, DAMAGES, strict=True):
        assert f"{path / file}: expected" in said, content
    assert f"{len(DAMAGES)} not sent, 1 sent" in said
    assert stored(tmp_path / "mlflow.db") == journalled([last])


# A store that came with the folder of somebody else, or that only their files name.


def test_sync_contacts_no_store_that_only_a_run_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        write_run(tmp_path, uri=uri)
        write_run(tmp_path, seed=1, uri=f"sqlite:///{tmp_path}/elsewhere/victim.db")
        assert sync([str(tmp_path)]) == 1
        with pytest.raises(BlockingIOError):
            listener.accept()
    said = capsys.readouterr().out
    assert f"got {uri}, which only the run's config.yaml names. If it is yours, set MLFLOW_TRACKING_URI" in said
    assert "2 not sent" in said
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["config.yaml", "facts.json", "code.diff", "run.log", "measurements", "figures"])
def test_sync_follows_no_link_out_of_a_run(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path, epochs=[1, 2, 3])
    secret = tmp_path / "secret"
    place = path / name
    if place.exists():
        place.rename(secret)
    elif name == "figures":
        secret.mkdir()
        (secret / "a.png").write_text("secret")
    else:
        secret.write_text("secret")
    place.symlink_to(secret)
    assert sync([str(tmp_path)]) == 1
    assert f"expected a file in {path}, got a link to {secret}" in capsys.readouterr().out
    assert not (tmp_path / "mlflow_artifacts").exists()


def test_store_is_used_that_a_person_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://127.0.0.1:5000"
    refuse_unnamed(tracking_uri(None, tmp_path), tmp_path, ())
    refuse_unnamed(uri, tmp_path, {uri, None})
    with pytest.raises(ConfigError, match="expected a store that you name"):
        refuse_unnamed(uri, tmp_path, {None})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    refuse_unnamed(uri, tmp_path, ())


OWN = "a store that keeps its files itself"
SERVER, FILE, DATABASE = "http://host:5000", "sqlite:////a/mlflow.db", "postgresql://host/db"
#: (store, place of a run's files): a store's own, the last of a server as `ncexp ui` starts it; and others.
PLACES = [(SERVER, "mlflow-artifacts:/1/0a/artifacts"), (SERVER, "mlflow-artifacts://host:5000/1/0a/artifacts")]
PLACES += [(FILE, "file:///a/mlflow_artifacts/d_%C3%A9")]
PLACES += [(store, "file:///a/mlflow_artifacts/digits/0a/artifacts") for store in (SERVER, FILE, DATABASE)]
OTHERS = [(SERVER, "mlflow-artifacts://other:5000/1/0a/artifacts"), (DATABASE, "mlflow-artifacts:/1/0a/artifacts")]
OTHERS += [(SERVER, place) for place in ("http://other/1", "s3://bucket/1", "file:///home/somebody")]
OTHERS += [(FILE, place) for place in ("http://other/1", "/a/mlflow_artifacts/digits")]
OTHERS += [(FILE, f"file:///{place}") for place in ("a/mlflow_artifacts", "a/mlflow_artifacts/..", "home/somebody")]
OTHERS += [(FILE, f"file:///{place}") for place in ("a/mlflow_artifacts/%2e%2e", "a/my_mlflow_artifacts/digits")]
OTHERS += [(FILE, "file:///b/mlflow_artifacts/digits/0a/artifacts"), (FILE, "file://host/a/mlflow_artifacts/digits")]


def test_place_of_files_is_the_stores_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri, place in PLACES:
        check_place(uri, place)
    for uri, place in OTHERS:
        with pytest.raises(ConfigError, match=f"expected {OWN}"):
            check_place(uri, place)
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/mine/")
    check_place(SERVER, "s3://bucket/mine/1/0a/artifacts")
    for place in ("s3://bucket/mine", "s3://bucket/mine_not/1", "s3://bucket/mine/../1", "s3://bucket/mine/%2e%2e/1"):
        with pytest.raises(ConfigError, match=f"expected {OWN}"):
            check_place(SERVER, place)


def test_place_of_files_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow_artifacts").symlink_to(tmp_path / "victim")
    uri = tracking_uri(None, tmp_path)
    with pytest.raises(ConfigError, match=f"expected {OWN}"):
        check_place(uri, (tmp_path / "mlflow_artifacts" / "digits").as_uri())
    (tmp_path / "mlflow.db").symlink_to(tmp_path / "mine.db")
    with pytest.raises(ConfigError, match=r"expected a store, got a link to .*mine\.db"):
        connect(uri)


@pytest.mark.parametrize("name", ["out", "outputs", "outputs_old_2", "mlflow_artifacts", "it's 100 % ü"])
def test_relocate_moves_every_address_whatever_the_names(tmp_path: Path, name: str) -> None:
    """The new name may be the beginning of the old one, and a folder above may have the name of that of the files."""
    old, new = tmp_path / "outputs_old", tmp_path / name
    new.mkdir()
    places = [
        f"{folder.as_uri()}/mlflow_artifacts/{rest}" for folder in (old, new) for rest in ("d_%C3%A9", "a/0a/artifacts")
    ]
    others = ["/a/mlruns/0", "file:///a/b", "s3://bucket/mlflow_artifacts/a", f"{old.as_uri()}/mlflow_artifacts/../a"]
    columns = (("experiments", "artifact_location"), ("runs", "artifact_uri"))
    with closing(sqlite3.connect(new / "mlflow.db")) as database, database:
        for table, column in columns:
            database.execute(f"create table {table} ({column})")
            database.executemany(f"insert into {table} values (?)", [(place,) for place in (*places, *others)])
    _relocate(new / "mlflow.db")
    with closing(sqlite3.connect(new / "mlflow.db")) as database:
        for table, column in columns:
            found = [place for (place,) in database.execute(f"select {column} from {table} order by rowid")]
            assert found == [*places[2:], *places[2:], *others]


@pytest.mark.slow
def test_store_of_a_newer_mlflow_says_which_and_what_to_do(tmp_path: Path, store_template: Path) -> None:
    uri = tracking_uri(None, tmp_path)
    shutil.copy(store_template, tmp_path / "mlflow.db")
    prepare(uri, ["digits"], tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as database:
        assert database.execute("pragma user_version").fetchone()[0] > 3_000_000  # that of the MLflow that opened it
        database.execute("update alembic_version set version_num = 'ffffffffffff'")
        for noted, said in (
            (99_001_002, r"got those of MLflow 99\.1\.2, which has opened it\. .* 'mlflow>=99\.1\.2'"),
            (0, r"got those of a newer MLflow, which has opened it\. Install that: `pip install -U 'mlflow'`\."),
        ):
            database.execute(f"pragma user_version = {noted}")
            with pytest.raises(ConfigError, match=said):
                prepare(uri, ["digits"], tmp_path)


@pytest.mark.slow
def test_advice_for_a_store_that_is_down_uploads_the_journals(
    composed: Compose, outputs: Path, store_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare_in_vain(*_: object) -> None:
        raise OSError("nobody is there")

    monkeypatch.setattr("ncexp.launching.plan.prepare", prepare_in_vain)
    with pytest.raises(ConfigError, match=r"set tracking\.enabled=false") as refused:
        prepare_tracking([check(composed("tracking.enabled=true"))])
    (advised,) = re.findall(r"`ncexp sync (.*)` can upload the journals later", str(refused.value))
    path = write_run(outputs, enabled=False)
    shutil.copy(store_template, outputs / "mlflow.db")
    assert sync(shlex.split(advised)) == 0
    assert stored(outputs / "mlflow.db") == journalled([path])


def test_stores_that_a_sweep_may_send_to_are_those_of_its_trainings(composed: Compose, outputs: Path) -> None:
    training = check(composed("tracking.uri=http://host:1"))
    run = write_run(outputs, uri="http://host:2")
    measuring = MeasureConfig(run=run, analyses={}, device="cpu", outputs=outputs, rerun="missing", raw={})
    assert configured_stores([training, measuring]) == {"http://host:1"}


def test_sync_command_names_a_store_that_is_not_the_folders_own() -> None:
    path = Path("/a b/run_0")
    assert sync_command(tracking_uri(None, path.parent), [path]) == "ncexp sync '/a b/run_0'"
    assert sync_command("http://host", [path, path]) == "ncexp sync --uri http://host '/a b'"
