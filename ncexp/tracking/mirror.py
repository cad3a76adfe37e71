"""One run directory as a run in MLflow.

`Mirror.send` compares what MLflow was sent with what the run directory holds and sends the rest, with the journal's
own times. It may be repeated at will: MLflow's SQL stores drop a point whose key, step, time and value they have. What
could not be sent stays in the journal and goes with the next attempt: of the run itself, of the same command later, or
of `ncexp sync`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ncexp.files import read_json, write_json
from ncexp.run_directory import RunDirectory
from ncexp.run_record import RunRecord, read_run
from ncexp.tracking import content
from ncexp.tracking.store import connect, experiment_id, only_writer

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: MLflow takes at most this many metrics, and this many parameters or tags, in one batch.
BATCH, SMALL_BATCH = 1000, 100


def mark_superseded(directory: RunDirectory) -> None:
    """Before a run is trained anew: note, on disk only, that the next send takes its MLflow run out of the lists."""
    memory = read_json(directory.tracking) or {}
    for sent in memory.values():
        sent["superseded"] = [*sent.get("superseded", []), *([sent["run_id"]] if "run_id" in sent else [])]
    if memory:
        write_json(directory.tracking, {uri: {"superseded": sent["superseded"]} for uri, sent in memory.items()})


def page_of(directory: RunDirectory, uri: str) -> str | None:
    """The run's page behind the address of the UI; None for a run that was never sent there."""
    sent = (read_json(directory.tracking) or {}).get(uri, {})
    return f"#/experiments/{sent['experiment_id']}/runs/{sent['run_id']}" if "run_id" in sent else None


class Mirror:
    """mlflow.json in the run directory remembers, for each store, which run it is there and how much it was sent."""

    def __init__(self, path: Path, uri: str, experiment: str) -> None:
        self._directory = RunDirectory(path)
        self._uri = uri
        self._experiment = experiment
        self._client: MlflowClient | None = None
        self._verified: Run | None = None

    def send(self, through: int | None = None) -> str:
        """Bring MLflow up to the journal, the status and the files.

        through: while the run trains, the epoch up to which the journal stands for good; the rest waits for its end.
        Answers "sent", "up to date", or "deleted" where somebody deleted the run in MLflow, which is respected.
        Raises whatever MLflow raises; what was not sent is sent by the next call.
        """
        self._client = self._client or connect(self._uri)
        with FileLock(self._directory.path / ".mlflow.lock"):
            memory = read_json(self._directory.tracking) or {}
            sent = memory.setdefault(self._uri, {})
            try:
                return self._bring_up(self._client, sent, through)
            finally:
                write_json(self._directory.tracking, memory)

    def _bring_up(self, client: MlflowClient, sent: dict[str, Any], through: int | None) -> str:
        run = read_run(self._directory.path)
        if through is not None and run.state == "running":  # it may have ended meanwhile: then all stands for good
            run = replace(run, records=[r for r in run.records if r["epoch"] <= through])
        with only_writer(self._uri):
            self._delete_superseded(client, sent)
            found = self._find(client, sent)
            if found is None:
                found = self._begin(client, run, sent)
        if found.info.lifecycle_stage == "deleted":
            return "deleted"
        mark = self._mark(run)
        if sent.get("mark") == mark:
            return "up to date"
        self._send_metrics(client, run, sent)
        if run.state != "running":
            self._send_files(client, sent, self._record_files())
            sent["mark"] = mark
        return "sent"

    def _delete_superseded(self, client: MlflowClient, sent: dict[str, Any]) -> None:
        while sent.get("superseded"):
            run_id = sent["superseded"][-1]
            if (old := _get_run(client, run_id)) and old.info.lifecycle_stage != "deleted":
                client.delete_run(run_id)
            sent["superseded"].pop()

    def _find(self, client: MlflowClient, sent: dict[str, Any]) -> Run | None:
        """The run as remembered, asked for once; None where the store does not know it, or it was never sent."""
        if "run_id" not in sent:
            return None
        if self._verified is None or self._verified.info.run_id != sent["run_id"]:
            self._verified = _get_run(client, sent["run_id"])
        return self._verified

    def _begin(self, client: MlflowClient, run: RunRecord, sent: dict[str, Any]) -> Run:
        """Make the run, or find what a killed process had made of it, with all that is known before the first epoch."""
        from mlflow.entities import Param, RunTag

        outputs = self._directory.path.parent
        where = experiment_id(client, self._uri, self._experiment, outputs)
        identity = f"{self._directory.path} since {self._started()}"
        made = client.search_runs([where], f"tags.training = '{identity}'", max_results=1)
        mlflow_run = (
            made[0]
            if made
            else client.create_run(
                where,
                start_time=content.milliseconds(self._started()),
                run_name=content.short_name(run),
                tags={"training": identity, "key": run.key, "directory": self._directory.path.name},
            )
        )
        run_id = mlflow_run.info.run_id
        known = mlflow_run.data.params
        parameters = [Param(name, str(value)) for name, value in run.parameters.items() if name not in known]
        for part in content.chunks(parameters, SMALL_BATCH):
            client.log_batch(run_id, params=part)
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in content.tags(run).items()])
        self._send_dataset(client, run, run_id)
        directory = self._directory
        self._send_files(client, {"run_id": run_id}, [directory.config, directory.facts, directory.environment])
        sent.update(experiment_id=where, run_id=run_id, lines=0, state=None, mark=None)
        return client.get_run(run_id)

    def _send_dataset(self, client: MlflowClient, run: RunRecord, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        chosen = run.raw["dataset"]
        sizes = {name: run.facts.get(name) for name in ("num_train", "num_test", "num_classes")}
        data = Dataset(
            name=chosen["name"],
            digest=content.data_digest(run),
            source_type="code",
            source=json.dumps({"tags": {"mlflow.source.name": chosen["_target_"]}}),
            profile=json.dumps(sizes),
        )
        client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train and test")])])

    def _send_metrics(self, client: MlflowClient, run: RunRecord, sent: dict[str, Any]) -> None:
        """Points, and after them the state: a run that says it is over has them all."""
        from mlflow.entities import Metric, RunTag

        timestamps = self._directory.journal.timestamps()
        new = content.points(run.records[sent["lines"] :], timestamps) + content.summary_points(run, timestamps)
        metrics = [Metric(*point) for point in new]
        for part in content.chunks(metrics, BATCH):
            with only_writer(self._uri):
                client.log_batch(sent["run_id"], metrics=part)
        sent["lines"] = len(run.records)
        if sent["state"] != run.state:
            with only_writer(self._uri):
                client.log_batch(sent["run_id"], tags=[RunTag(k, v) for k, v in content.tags(run).items()])
                self._send_status(client, run, sent["run_id"])
            sent["state"] = run.state

    def _send_status(self, client: MlflowClient, run: RunRecord, run_id: str) -> None:
        status = content.RUN_STATUS[run.state]
        if status in ("RUNNING", "SCHEDULED"):
            client.update_run(run_id, status=status)
        else:
            client.set_terminated(run_id, status=status, end_time=self._ended(run))

    def _send_files(self, client: MlflowClient, sent: dict[str, Any], paths: list[Path]) -> None:
        for path in paths:
            if path.exists():
                client.log_artifact(sent["run_id"], str(path), "figures" if path.parent.name == "figures" else None)

    def _record_files(self) -> list[Path]:
        directory = self._directory
        record = [directory.config, directory.facts, directory.environment, directory.code_diff]
        record += [directory.status_path, directory.log]
        figures = sorted(path for path in directory.figures.glob("*.*") if path.suffix in (".png", ".pdf"))
        return [*record, directory.journal.path, directory.journal.clock_path, *figures]

    def _mark(self, run: RunRecord) -> Any:
        """Equal marks: nothing has changed since all was sent."""
        files = [[path.name, path.stat().st_mtime_ns] for path in self._record_files() if path.exists()]
        return [run.state, len(run.records), files]

    def _started(self) -> str:
        return str((self._directory.status() or {})["started"])

    def _ended(self, run: RunRecord) -> int:
        """When the status says so; of a killed run, when it last wrote."""
        times = self._directory.journal.timestamps().values()
        if run.state == "killed" and times:
            return max(times)
        return content.milliseconds((self._directory.status() or {})["updated"])


def _get_run(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
