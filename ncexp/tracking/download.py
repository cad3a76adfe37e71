"""An MLflow store's runs as run directories again: the record that every ended run has there as its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ncexp.config.names import NAME_CONTRACT, is_file_name, is_name, shown
from ncexp.record import RunDirectory
from ncexp.record.tensor_file import write_tensors
from ncexp.tracking.store import connect

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: What makes a record; a run whose training has not ended has no journals there yet.
RECORD = (
    *("config.yaml", "facts.json", "environment.json", "status.json", "identity.json", "origin.json"),
    *("training.jsonl", "clock.jsonl", "path_fit.json"),
)
#: What may lie in a folder of journals.
JOURNAL = re.compile(r"measurements/[\w.-]+\.jsonl?")
PAGE = 500


def download_records(uri: str, experiments: list[str], folder: Path) -> None:
    """A directory ``NUMBER/NAME`` for each run of ours in these experiments; in all of them, where none is named.

    What the store says is not trusted: nothing is written outside `folder`, and only files of a record are read.

    Raises ValueError for an experiment that is not there, and for a run whose name is none or whose artifacts are no
    files; Unreachable; RuntimeError with what MLflow says where the store fails or does not give a file.
    """
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        _download_all(client, experiments, folder)
    except MlflowException as error:
        raise RuntimeError(f"{uri}: {' '.join(str(error).split())}") from error


def _download_all(client: MlflowClient, experiments: list[str], folder: Path) -> None:
    known = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    if missing := [name for name in experiments if name not in known]:
        raise ValueError(
            f"--experiment: expected one of {', '.join(sorted(known))}, got {missing[0]}. Name one of these."
        )
    wanted = [known[name] for name in experiments or known]
    for number, run in enumerate(_search(client, wanted)):
        _download(client, run, folder / f"{number}")


def _search(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    token: str | None = None
    while True:
        page = client.search_runs(experiments, "tags.identity LIKE '%'", max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _download(client: MlflowClient, run: Run, folder: Path) -> None:
    name = run.data.tags.get("directory", "")
    if not is_file_name(name):
        raise ValueError(
            f"run {run.info.run_id}: expected the name of a directory in its tag `directory`, got {shown(name)}. "
            "Somebody changed it: correct the tag in MLflow."
        )
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
            raise ValueError(
                f"run {run.info.run_id}: expected a file as its artifact {file}, got something else. Somebody changed "
                "it: name the experiments to read with --experiment."
            )
        (directory.path / file).parent.mkdir(exist_ok=True)
        Path(fetched).replace(directory.path / file)  # some stores' clients make folders, some do not
    _check_names(run.info.run_id, directory.config)
    state, epoch = directory.state(), run.data.tags.get("epoch", "")
    if state is not None and not state.final and re.fullmatch(r"[0-9]{1,9}", epoch):
        # The checkpoint itself is not in MLflow; how far it covers the journals is all that reading them needs.
        write_tensors(directory.resume, {}, "resume", directory.key, position={"epoch": int(epoch) + 1, "step": 0})


def _check_names(run_id: str, config: Path) -> None:
    """Raises ValueError where a name in the configuration is none: a report's files bear them."""
    raw = (yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else None) or {}
    for group in ("dataset", "architecture", "loss", "optimizer", "simulation"):
        chosen = raw.get(group, {"name": group})
        name = chosen.get("name") if isinstance(chosen, dict) else None
        if not is_name(name):
            raise ValueError(
                f"run {run_id}: expected as {group}.name in its config.yaml {NAME_CONTRACT}, got {shown(name)}. "
                "Somebody changed it: name the experiments to read with --experiment."
            )
