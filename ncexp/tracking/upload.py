"""One run directory as a run in MLflow.

`RunUpload.send` compares what MLflow was sent with what the run directory holds and sends the rest, with the times of
the run's clock. It may be repeated at will: MLflow's SQL stores drop a point whose key, step, time and value they have.
What could not be sent stays in the journals and goes with the next attempt: of the run itself, of the same command
later, or of `ncexp sync`. Nothing is sent that a resumed training may compute again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ncexp.record import DamagedFile, Record, RunDirectory, SavedRun, State, read_run, write_json
from ncexp.record.files import LARGEST_JOURNAL, read_file, refuse_links
from ncexp.tracking import content
from ncexp.tracking.address import check_place, file_at, outputs_of, store_name
from ncexp.tracking.memory import Memory, read_memory
from ncexp.tracking.store import connect, experiment_id, only_writer

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: MLflow takes at most this many metrics, and this many parameters or tags, in one batch.
BATCH, SMALL_BATCH = 1000, 100
#: Tags that a run may have had and has no more: those of an interruption are not those of the end.
PASSING_TAGS = ("reason", "epoch", "sweep")
#: The tag of a run that another one of the same directory has replaced.
REPLACED = "replaced"


class RunUpload:
    """One run and one store; mlflow.json in the run directory remembers what was sent."""

    def __init__(
        self, path: Path, uri: str, experiment: str, note_progress: Callable[[], object] = lambda: None
    ) -> None:
        self._note_progress = note_progress  # after each call that brought something there
        self._directory = RunDirectory(path)
        self._uri, self._experiment = uri, experiment
        self._outputs = outputs_of(path)
        self._client: MlflowClient | None = None
        self._verified: Run | None = None
        self._deleted: set[str] = set()

    def send(self) -> str:
        """Bring MLflow up to the journals, the status and the files.

        Returns "sent", "up to date", or "deleted" where somebody deleted the run in MLflow, which is respected. Raises
        whatever MLflow raises; what was not sent is sent by the next call.
        """
        refuse_links(self._directory.path, self._record_files())
        self._client = self._client or connect(self._uri)
        with FileLock(self._directory.path / ".mlflow.lock"):
            stores = read_memory(self._directory)
            before = json.dumps(stores)
            memory = Memory(stores.setdefault(store_name(self._uri, self._outputs), {}))
            try:
                return self._bring_up(self._client, memory)
            except Exception:
                self._verified = None  # somebody may have deleted it
                raise
            finally:
                if json.dumps(stores) != before:
                    write_json(self._directory.tracking, stores)

    def _bring_up(self, client: MlflowClient, memory: Memory) -> str:
        run = read_run(self._directory.path)
        sources = content.sources(run)
        found = self._find(client, memory)
        if found is not None and found.info.lifecycle_stage == "deleted":
            return "deleted"
        if found is not None and memory.contradicts(sources):
            memory.supersede()
            found = None
        with only_writer(self._uri):
            self._delete_superseded(client, memory)
            if found is None:
                self._begin(client, run, memory)
        sent = found is None
        sent |= self._send_metrics(client, memory, memory.pending(sources))
        sent |= self._send_tags(client, run, memory)
        if run.state is not State.RUNNING:
            sent |= self._send_files(client, memory, self._record_files())
        return "sent" if sent else "up to date"

    def _delete_superseded(self, client: MlflowClient, memory: Memory) -> None:
        """Once an upload: who restores an experiment restores them, too. The tag tells them from runs that count."""
        key = self._directory.key
        for run_id in set(memory.superseded) - self._deleted:
            old = _get_run(client, run_id)
            # mlflow.json may have come with the folder of somebody else: what it names may be another's run.
            if old and old.info.lifecycle_stage != "deleted" and old.data.tags.get("key") == key:
                client.set_tag(run_id, REPLACED, "true")
                client.delete_run(run_id)
            self._deleted.add(run_id)

    def _find(self, client: MlflowClient, memory: Memory) -> Run | None:
        """The run as remembered, asked for once; None where the store has none of ours, or it was never sent."""
        if not memory.run_id:
            return None
        if self._verified is None or self._verified.info.run_id != memory.run_id:
            found = _get_run(client, memory.run_id)
            is_ours = found is not None and found.data.tags.get("identity") == self._directory.identity()
            self._verified = found if is_ours else None
        return self._verified

    def _begin(self, client: MlflowClient, run: SavedRun, memory: Memory) -> None:
        """Make the run, or find the one that bears its identity, with all that is known before the first epoch."""
        from mlflow.entities import Param

        identity, key = self._directory.identity(), self._directory.key
        where = experiment_id(client, self._uri, self._experiment, self._outputs)
        made = client.search_runs([where], f"tags.identity = '{identity}'")
        mlflow_run = next(
            (one for one in made if one.data.tags.get("key") == key),
            None,
        ) or client.create_run(
            where,
            start_time=self._started(),
            run_name=content.short_name(run),
            tags={"identity": identity, "key": key, "directory": self._directory.path.name},
        )
        memory.begin(where, mlflow_run.info.run_id)
        self._verified = mlflow_run
        known = mlflow_run.data.params
        named = {content.metric_name(name): str(value) for name, value in run.parameters.items()}
        parameters = [Param(name, value) for name, value in named.items() if name not in known]
        for part in content.chunks(parameters, SMALL_BATCH):
            client.log_batch(mlflow_run.info.run_id, params=part)
        if not run.is_simulation:
            self._send_dataset(client, run, mlflow_run.info.run_id)
        directory = self._directory
        self._send_files(client, memory, [directory.config, directory.facts, directory.environment])

    def _send_dataset(self, client: MlflowClient, run: SavedRun, run_id: str) -> None:
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

    def _send_metrics(self, client: MlflowClient, memory: Memory, rows: list[tuple[str, Record]]) -> bool:
        """A batch at a time, each noted once it is there."""
        from mlflow.entities import Metric

        times, started = self._directory.clock.read(), self._started()
        for some in _by_size(rows):
            metrics = [Metric(*point) for point in content.points(some, times, started)]
            for part in content.chunks(metrics, BATCH):
                with only_writer(self._uri):
                    client.log_batch(memory.run_id, metrics=part)
                self._note_progress()
            for source, record in some:
                memory.mark(source, record)
        return bool(rows)

    def _send_tags(self, client: MlflowClient, run: SavedRun, memory: Memory) -> bool:
        """After the numbers, so that a run that says that it is over has them all."""
        from mlflow.entities import RunTag

        tags = content.tags(run, memory.run_id)
        checksum = zlib.crc32(json.dumps(tags).encode())
        if memory.content["tags"] == checksum:
            return False
        with only_writer(self._uri):
            there = client.get_run(memory.run_id).data.tags
            client.log_batch(memory.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
            for name in PASSING_TAGS:
                if name in there and name not in tags:
                    client.delete_tag(memory.run_id, name)
            self._send_status(client, run, memory.run_id)
        memory.content["tags"] = checksum
        return True

    def _send_status(self, client: MlflowClient, run: SavedRun, run_id: str) -> None:
        if run.state.mlflow in ("RUNNING", "SCHEDULED"):
            client.update_run(run_id, status=run.state.mlflow)
        else:
            client.set_terminated(run_id, status=run.state.mlflow, end_time=self._ended(run))

    def _send_files(self, client: MlflowClient, memory: Memory, paths: list[Path]) -> bool:
        """Those that are not there as they are here."""
        assert self._verified is not None
        place = self._verified.info.artifact_uri
        check_place(self._uri, place)
        names = [path.relative_to(self._directory.path) for path in filter(Path.exists, paths)]
        if (there := file_at(place)) is not None:
            refuse_links(there, [there / name for name in names])
        sent = False
        for name in names:
            path = self._directory.path / name
            checksum = zlib.crc32(read_file(path, LARGEST_JOURNAL))
            if memory.content["files"].get(str(name)) != checksum:
                folder = None if name.parent == Path() else str(name.parent)
                client.log_artifact(memory.run_id, str(path), folder)
                self._note_progress()
                memory.content["files"][str(name)] = checksum
                sent = True
        return sent

    def _record_files(self) -> list[Path]:
        directory = self._directory
        record = [directory.config, directory.facts, directory.environment, directory.code_diff]
        record += [directory.origin, directory.identity_path, directory.status_path, directory.log, directory.path_fit]
        figures = sorted(path for path in directory.figures.glob("*.*") if path.suffix in (".png", ".pdf"))
        journals = sorted([*directory.measurements.glob("*.json"), *directory.measurements.glob("[!.]*.jsonl")])
        return [*record, directory.training.path, directory.clock.path, *journals, *figures]

    def _started(self) -> int:
        return content.milliseconds(self._status()["started"])

    def _ended(self, run: SavedRun) -> int:
        """When the status says so; of a killed run, when it last wrote."""
        times = self._directory.clock.read().values()
        if run.state is State.KILLED and times:
            return max(times)
        return content.milliseconds(self._status()["updated"])

    def _status(self) -> dict[str, Any]:
        status = self._directory.status()
        if status is None:
            raise DamagedFile(
                f"{self._directory.status_path}: expected the run's status, got none. The command that trained it "
                "writes it again."
            )
        return status


def _by_size(rows: list[tuple[str, Record]]) -> list[list[tuple[str, Record]]]:
    """Rows in lists of about a batch of numbers each."""
    parts: list[list[tuple[str, Record]]] = []
    room = 0
    for row in rows:
        if len(row[1]) > room:
            parts.append([])
            room = BATCH
        parts[-1].append(row)
        room -= len(row[1])
    return parts


def _get_run(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
