"""An MLflow store's runs as run directories again: every run that has ended has its files there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ncexp.config.names import is_file_name, shown
from ncexp.record import RunDirectory
from ncexp.tracking.address import check_place, file_at
from ncexp.tracking.store import connect
from ncexp.tracking.upload import REPLACED

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: What makes a run directory; a run whose training has not ended has no journals there yet.
RECORD = (
    *("config.yaml", "facts.json", "environment.json", "status.json", "identity.json", "origin.json"),
    *("training.jsonl", "clock.jsonl", "path_fit.json"),
)
#: What may lie in a folder of journals.
JOURNAL = re.compile(r"measurements/[\w.-]+\.jsonl?")
PAGE = 500


def download_records(uri: str, experiments: list[str], folder: Path) -> list[str]:
    """A directory ``RUN/NAME`` for each run of ours in these experiments; in all of them, where none is named.

    What the store says is not trusted: nothing is written outside `folder`, only files of a run are read, and only
    at places of the store's own (`check_place`). Returns what is wrong with the runs that are left out for it.

    Raises ValueError for an experiment that is not there; Unreachable; RuntimeError with what MLflow says where the
    store fails or does not give a file.
    """
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        known = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
        if missing := [name for name in experiments if name not in known]:
            raise ValueError(
                f"--experiment: expected one of {', '.join(sorted(known))}, got {missing[0]}. Name one of these."
            )
        return list(_download_all(client, uri, [known[name] for name in experiments or known], folder))
    except MlflowException as error:
        raise RuntimeError(f"{uri}: {' '.join(str(error).split())}") from error


def _download_all(client: MlflowClient, uri: str, experiments: list[str], folder: Path) -> Iterator[str]:
    """Yields what is wrong with a run that is left out."""
    from mlflow.exceptions import MlflowException

    seen: dict[str, str] = {}
    for run in _search(client, experiments):  # the newest first
        run_id = run.info.run_id
        if not re.fullmatch("[0-9A-Za-z]{1,64}", run_id):
            yield f"run {shown(run_id)}: expected letters and digits as what the store calls it."
            continue
        key = run.data.tags.get("key", run_id)
        try:
            if newer := seen.get(key):
                raise ValueError(f"expected one run of key {key}, got run {newer}, too, a newer one. Delete one.")
            seen[key] = run_id
            _download(client, run, uri, folder / run_id)
        except (ValueError, OSError, MlflowException) as error:
            if isinstance(error, MlflowException) and file_at(run.info.artifact_uri) is None:
                raise  # of a server: the next run would fail alike
            shutil.rmtree(folder / run_id, ignore_errors=True)
            yield f"run {run_id}: {without_folder(' '.join(str(error).split()), folder / run_id)}"


def without_folder(text: str, folder: Path) -> str:
    """What is said of files below `folder`, which is gone when it is read, without it."""
    return text.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")


def _search(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    token: str | None = None
    while True:
        page = client.search_runs(experiments, "tags.identity LIKE '%'", max_results=PAGE, page_token=token)
        yield from (run for run in page if REPLACED not in run.data.tags)
        token = page.token
        if not token:
            return


def _download(client: MlflowClient, run: Run, uri: str, folder: Path) -> None:
    name = run.data.tags.get("directory", "")
    if not is_file_name(name):
        raise ValueError(
            f"expected the name of a directory in its tag `directory`, got {shown(name)}. Somebody changed it: correct "
            "the tag in MLflow."
        )
    check_place(uri, str(run.info.artifact_uri))
    directory = RunDirectory(folder / name)
    directory.path.mkdir(parents=True)
    listed = client.list_artifacts(run.info.run_id)
    wanted = [artifact for artifact in listed if artifact.path in RECORD]
    if directory.measurements.name in (artifact.path for artifact in listed):
        journals = client.list_artifacts(run.info.run_id, directory.measurements.name)
        wanted += [artifact for artifact in journals if JOURNAL.fullmatch(artifact.path)]
    for artifact in wanted:
        file = artifact.path
        fetched = None if artifact.is_dir else client.download_artifacts(run.info.run_id, file, str(directory.path))
        if fetched is None or not Path(fetched).resolve().is_relative_to(directory.path.resolve()):
            raise ValueError(f"expected a file as its artifact {file}, got something else. Somebody changed it.")
        (directory.path / file).parent.mkdir(exist_ok=True)
        Path(fetched).replace(directory.path / file)  # some stores' clients make folders, some do not
