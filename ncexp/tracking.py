"""MLflow as a mirror of the journal; the only file that imports mlflow.

`Mirror.send` compares what MLflow was sent with what the run directory holds and sends the rest, with the journal's own
timestamps. It may be repeated at will: MLflow's SQL stores drop a point whose key, step, time and value they have.
A run sends from a thread of its own, so that no training step waits for a store or a network; what could not be sent
stays in the journal and goes with the next attempt, at the latest when the same command is started again.
"""

from __future__ import annotations

import math
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ncexp.config import RunConfig
from ncexp.files import read_json, write_json
from ncexp.run_directory import RunDirectory

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: A dead server costs a call seconds, not MLflow's default four minutes; the journal makes giving up safe.
CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
#: MLflow takes at most this many metrics in one batch.
BATCH = 1000
#: How MLflow calls our states.
RUN_STATUS = {
    "running": "RUNNING",
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


def tracking_uri(config: RunConfig) -> str:
    """The configured URI, or the embedded store: SQLite under the outputs folder, absolute."""
    return config.tracking["uri"] or f"sqlite:///{config.outputs / 'mlflow.db'}"


def open_command(config: RunConfig, directory: RunDirectory) -> str:
    """The command that shows this run in MLflow, and the page to open."""
    sent = read_json(directory.tracking)
    page = f"#/experiments/{sent['experiment_id']}/runs/{sent['run_id']}" if sent else ""
    uri = tracking_uri(config)
    if uri.startswith("http"):
        return f"{uri.rstrip('/')}/{page}"
    return f"mlflow ui --backend-store-uri {uri} --port 5000   # then open http://127.0.0.1:5000/{page}"


class Mirror:
    """One run directory as a run in MLflow; mlflow.json remembers which, and how many journal lines it has."""

    def __init__(self, config: RunConfig, directory: RunDirectory) -> None:
        self._config = config
        self._directory = directory
        self._uri = tracking_uri(config)
        self._client: MlflowClient | None = None

    def send(self, artifacts: bool = False) -> None:
        """Bring MLflow up to the journal and the status; with `artifacts` also the figures and files.

        Raises whatever MLflow raises; what was not sent is sent by the next call.
        """
        client = self._connect()
        with self._only_writer():
            sent = read_json(self._directory.tracking) or self._begin(client)
            records = self._directory.journal.read()
            timestamps = self._directory.journal.timestamps()
            self._send_metrics(client, sent["run_id"], records[sent["lines"] :], timestamps)
            write_json(self._directory.tracking, {**sent, "lines": len(records)})
            if artifacts:
                self._send_artifacts(client, sent["run_id"])
            self._send_state(client, sent["run_id"])

    def forget(self) -> None:
        """Take the run of an earlier training out of MLflow's lists (restorable there), before the run begins anew."""
        if sent := read_json(self._directory.tracking):
            client = self._connect()
            with self._only_writer():
                client.delete_run(sent["run_id"])

    def _connect(self) -> MlflowClient:
        if self._client is None:
            for name, value in CLIENT_SETTINGS.items():
                os.environ.setdefault(name, value)
            from mlflow.tracking import MlflowClient

            if self._uri.startswith("sqlite:///"):
                with self._only_writer():
                    _create_store(Path(self._uri.removeprefix("sqlite:///")))
            self._client = MlflowClient(self._uri)
        return self._client

    def _only_writer(self) -> AbstractContextManager[Any]:
        """SQLite takes one writer; processes that share the embedded store queue up here."""
        if not self._uri.startswith("sqlite:"):
            return nullcontext()
        return FileLock(self._config.outputs / ".mlflow.lock")

    def _begin(self, client: MlflowClient) -> dict[str, Any]:
        """Find the run that a killed process made for this directory, or make it, with its parameters."""
        experiment_id = self._experiment(client)
        path = str(self._directory.path)
        found = client.search_runs([experiment_id], f"tags.directory = '{path}'", max_results=1)
        run: Run = (
            found[0]
            if found
            else client.create_run(
                experiment_id, run_name=self._config.name, tags={"directory": path, "key": self._config.key}
            )
        )
        for name, value in self._parameters().items():
            client.log_param(run.info.run_id, name, value)
        sent = {"uri": self._uri, "experiment_id": experiment_id, "run_id": run.info.run_id, "lines": 0}
        write_json(self._directory.tracking, sent)
        return sent

    def _experiment(self, client: MlflowClient) -> str:
        name = self._config.tracking["experiment"] or self._config.dataset.name
        with FileLock(self._config.outputs / ".mlflow_experiment.lock"):
            if existing := client.get_experiment_by_name(name):
                return str(existing.experiment_id)
            local = (
                None if self._uri.startswith("http") else (self._config.outputs / "mlflow_artifacts" / name).as_uri()
            )
            return str(client.create_experiment(name, artifact_location=local))

    def _parameters(self) -> dict[str, Any]:
        config = self._config
        components = [config.dataset, config.architecture, config.loss, config.optimizer, config.schedule]
        chosen = {component.group: component.name for component in components}
        options = {f"{c.group}.{name}": value for c in components for name, value in c.options.items()}
        return {
            **chosen,
            **options,
            "lr": config.optimizer.options.get("lr"),
            "seed": config.seed,
            "epochs": config.epochs,
            "batch_size": config.batch_size,
            **(read_json(self._directory.facts) or {}),
        }

    def _send_metrics(
        self, client: MlflowClient, run_id: str, records: list[dict[str, float]], timestamps: dict[int, int]
    ) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, timestamps[int(record["epoch"])], int(record["epoch"]))
            for record in records
            for name, value in record.items()
            if name != "epoch" and not math.isnan(value)  # undefined: a gap in the chart
        ]
        for first in range(0, len(metrics), BATCH):
            client.log_batch(run_id, metrics=metrics[first : first + BATCH])

    def _send_artifacts(self, client: MlflowClient, run_id: str) -> None:
        for path in sorted(self._directory.figures.glob("*.png")):
            client.log_artifact(run_id, str(path), "figures")
        for path in (self._directory.config, self._directory.facts, self._directory.journal.path):
            if path.exists():
                client.log_artifact(run_id, str(path))

    def _send_state(self, client: MlflowClient, run_id: str) -> None:
        state = self._directory.state() or "running"
        client.set_tag(run_id, "state", state)
        if RUN_STATUS[state] == "RUNNING":
            client.update_run(run_id, status="RUNNING")
        else:
            client.set_terminated(run_id, status=RUN_STATUS[state])


def _create_store(path: Path) -> None:
    """Make an SQLite store with MLflow's tables, whole or not at all: a kill amid its migrations would leave a ruin."""
    if path.exists():
        return
    from mlflow.tracking import MlflowClient

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
    temporary.replace(path)


class BackgroundMirror:
    """A thread that sends when told that there is news; a failure is kept to be said at the end, never raised."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._news = threading.Event()
        self._ending = False
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """There is a new line in the journal."""
        self._news.set()

    def finish(self, timeout: float) -> None:
        """Send all that is left, artifacts and state included; waits for it at most `timeout` seconds."""
        self._ending = True
        self._news.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.failure = TimeoutError(f"no answer within {timeout:.0f} s")

    def _work(self) -> None:
        ending = False
        while not ending:
            self._news.wait()
            self._news.clear()
            ending = self._ending  # read before sending: an end announced meanwhile wakes us once more
            try:
                self._mirror.send(artifacts=ending)
                self.failure = None
            except Exception as error:
                self.failure = error
