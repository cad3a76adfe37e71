"""An MLflow store's runs as run directories again: the journal that every ended run carries there is its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ncexp.tracking.store import connect

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: What makes a record; a run whose training has not ended has no journal there yet.
RECORD = ("config.yaml", "facts.json", "status.json", "journal.jsonl", "clock.jsonl")
PAGE = 500


def download_records(uri: str, experiments: list[str], folder: Path) -> None:
    """A directory for each run of ours in these experiments (all, where none is named), named as the run's own.

    Raises ValueError for an experiment that is not there; whatever MLflow raises where the store does not answer.
    """
    client = connect(uri)
    known = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    if missing := [name for name in experiments if name not in known]:
        raise ValueError(
            f"--experiment: expected one of {', '.join(sorted(known))}, got {missing[0]}. Name one of these."
        )
    wanted = [known[name] for name in experiments or known]
    token: str | None = None
    while True:
        page = client.search_runs(wanted, "tags.key LIKE '%'", max_results=PAGE, page_token=token)
        for run in page:
            _download(client, run, folder)
        token = page.token
        if not token:
            return


def _download(client: MlflowClient, run: Run, folder: Path) -> None:
    there = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    directory = folder / run.data.tags["directory"]
    directory.mkdir(exist_ok=True)
    for name in RECORD:
        if name in there:
            client.download_artifacts(run.info.run_id, name, str(directory))
