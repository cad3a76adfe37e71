"""One run directory as a run in MLflow.

`send` compares what MLflow was sent with what the run directory holds and sends the rest, with the times of the run's
clock. It may be repeated at will: MLflow's SQL stores drop a point whose key, step, time and value they have.
What could not be sent stays in the journals and goes with the next attempt: of the run itself, of the same command
later, or of `ncexp sync`.

mlflow.json in the run directory says which run it is in each store, and what that store was sent: of every journal the
epochs, each with a checksum of its line. So a journal may gain lines at any place, nothing is sent twice, and a line
that is no longer what was sent is noticed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ncexp.record import DamagedFile, Record, RunDirectory, State, read_json, read_run, set_aside, write_json
from ncexp.record.files import LARGEST_JOURNAL, read_file, refuse_links
from ncexp.tracking import content
from ncexp.tracking.address import OF_TRAININGS, check_place, file_at, outputs_of, store_name
from ncexp.tracking.store import connect, experiment_id, only_writer

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

#: Where numbers come from: a journal's name, or that of a number made of several → its lines.
Sources = Mapping[str, Sequence[Record]]
#: MLflow takes at most this many metrics, and this many parameters or tags, in one batch.
BATCH, SMALL_BATCH = 1000, 100
#: Tags that a run may have had and has no more: those of an interruption are not those of the end.
PASSING_TAGS = ("reason", "epoch", "sweep")
#: The tag of a run that another one of the same directory has replaced.
REPLACED = "replaced"


class Memory(BaseModel):
    """What one store was sent of one run. run_id: the run there, empty before the first upload; tags: a checksum of
    them; files: name → checksum; epochs: source → epoch → checksum of the line.
    """

    model_config = ConfigDict(strict=True)

    experiment_id: str = ""
    run_id: str = ""
    tags: int | None = None
    files: dict[str, int] = {}
    epochs: dict[str, dict[str, int]] = {}

    def pending(self, sources: Sources) -> list[tuple[str, Record]]:
        """(source, line) of all that was not sent."""
        rows = ((source, line) for source, lines in sources.items() for line in lines)
        return [(source, line) for source, line in rows if self._sent(source, line) is None]

    def mark(self, source: str, line: Record) -> None:
        """Note that this line was sent."""
        self.epochs.setdefault(source, {})[str(int(line["epoch"]))] = checksum(line)

    def contradicts(self, sources: Sources) -> bool:
        """Whether something was sent that is no longer so: a line that was replaced, a journal that is not read now.

        A line that is missing does not count: it may be written again.
        """
        gone = self.epochs.keys() - sources.keys()
        rows = ((source, line) for source, lines in sources.items() for line in lines)
        return any(source.startswith("measurements/") for source in gone) or any(
            self._sent(source, line) not in (None, checksum(line)) for source, line in rows
        )

    def _sent(self, source: str, line: Record) -> int | None:
        """The checksum of the line that was sent of this epoch; None where none was."""
        return self.epochs.get(source, {}).get(str(int(line["epoch"])))


def read_memory(directory: RunDirectory) -> dict[str, Memory]:
    """mlflow.json: store → what it was sent. A damaged file is set aside: the run is found by its identity."""
    try:
        return TypeAdapter(dict[str, Memory]).validate_python(read_json(directory.tracking) or {})
    except (DamagedFile, ValidationError):
        set_aside(directory.tracking)
        return {}


def page_of(directory: RunDirectory, uri: str) -> str | None:
    """The run's page behind the address of the UI; None for a run that was never sent there."""
    memory = read_memory(directory).get(store_name(uri, outputs_of(directory.path)), Memory())
    if not memory.run_id:
        return None
    return f"#/experiments/{memory.experiment_id}/runs/{memory.run_id}?{OF_TRAININGS}"


def checksum(content: Record | Mapping[str, str]) -> int:
    """Of a line, or of tags."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def send(path: Path, uri: str, experiment: str) -> str:
    """Bring an MLflow store up to a run's journals, status and files.

    Returns "sent", "up to date", or "deleted" where somebody deleted the run in MLflow, which is respected. Raises
    whatever MLflow raises; what was not sent is sent by the next call.
    """
    directory = RunDirectory(path)
    refuse_links(path, _files_of(directory))
    client = connect(uri)
    with FileLock(path / ".mlflow.lock"):
        stores = read_memory(directory)
        memory = stores.setdefault(store_name(uri, outputs_of(path)), Memory())
        before = memory.model_dump_json()
        try:
            return _Upload(client, uri, experiment, directory, memory).bring_up()
        finally:
            if memory.model_dump_json() != before:
                write_json(directory.tracking, {name: one.model_dump() for name, one in stores.items()})


class _Upload:
    """One transfer of one run; `_there` is the run in MLflow."""

    _there: Run

    def __init__(
        self, client: MlflowClient, uri: str, experiment: str, directory: RunDirectory, memory: Memory
    ) -> None:
        self._client, self._uri, self._experiment = client, uri, experiment
        self._directory, self._memory = directory, memory
        self._identity, self._key = directory.identity(), directory.key
        self._run = read_run(directory.path)
        if (status := directory.status()) is None:
            raise DamagedFile(
                f"{directory.status_path}: expected the run's status, got none. The command that trained it writes it "
                "again."
            )
        times = (datetime.fromisoformat(status[name]).timestamp() for name in ("started", "updated"))
        self._started, self._updated = (int(1000 * seconds) for seconds in times)

    def bring_up(self) -> str:
        sources, found = content.sources(self._run), self._remembered()
        is_current = found is not None and found.data.tags.get("identity") == self._identity
        if found and is_current and found.info.lifecycle_stage == "deleted":
            return "deleted"
        with only_writer(self._uri):
            if found and (not is_current or self._memory.contradicts(sources)):
                self._take_out(found)
                found = None
            self._there = found or self._begin()
            self._take_out_restored()
        if found is None:
            self._describe()
            self._memory.experiment_id, self._memory.run_id = self._there.info.experiment_id, self._run_id
        sent = [found is None, self._send_metrics(sources), self._send_tags()]
        if self._run.state is not State.RUNNING:
            sent.append(self._send_files(_files_of(self._directory)))
        return "sent" if any(sent) else "up to date"

    def _remembered(self) -> Run | None:
        """The run that mlflow.json names; None where it names none, or another's: it may be somebody else's file."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(self._memory.run_id) if self._memory.run_id else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return found if found and found.data.tags.get("key") == self._key else None

    def _take_out(self, old: Run) -> None:
        """A run of an earlier training in this directory, or with numbers that were replaced since."""
        if old.info.lifecycle_stage != "deleted":
            self._client.set_tag(old.info.run_id, REPLACED, "true")
            self._client.delete_run(old.info.run_id)

    def _take_out_restored(self) -> None:
        """Who restores an experiment restores the runs that were replaced, too."""
        where = [self._there.info.experiment_id]
        for old in self._client.search_runs(where, f"tags.key = '{self._key}' and tags.{REPLACED} = 'true'"):
            self._take_out(old)

    def _begin(self) -> Run:
        """The run that bears our identity, made where there is none."""
        where = experiment_id(self._client, self._uri, self._experiment, outputs_of(self._directory.path))
        wanted = f"tags.identity = '{self._identity}' and tags.key = '{self._key}'"
        made = (one for one in self._client.search_runs([where], wanted) if REPLACED not in one.data.tags)
        if (there := next(made, None)) is None:
            tags = {"identity": self._identity, "key": self._key, "directory": self._directory.path.name}
            name = content.short_name(self._run)
            there = self._client.create_run(where, start_time=self._started, run_name=name, tags=tags)
        # Nothing was sent to it yet, as far as is known.
        self._memory.run_id, self._memory.tags, self._memory.files, self._memory.epochs = "", None, {}, {}
        return there

    @property
    def _run_id(self) -> str:
        return str(self._there.info.run_id)

    def _describe(self) -> None:
        """Send all that is known before the first epoch."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        run, run_id, known = self._run, self._run_id, self._there.data.params
        named = {content.metric_name(name): str(value) for name, value in run.parameters.items()}
        parameters = [Param(name, value) for name, value in named.items() if name not in known]
        with only_writer(self._uri):
            for part in content.chunks(parameters, SMALL_BATCH):
                self._client.log_batch(run_id, params=part)
            if not run.is_simulation:
                chosen = run.raw["dataset"]
                source = json.dumps({"tags": {"mlflow.source.name": chosen["_target_"]}})
                sizes = json.dumps(content.sizes(run))
                data = Dataset(chosen["name"], content.data_digest(run), "code", source, profile=sizes)
                self._client.log_inputs(
                    run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train and test")])]
                )
        self._send_files([self._directory.config, self._directory.facts, self._directory.environment])

    def _send_metrics(self, sources: Sources) -> bool:
        """About a batch of numbers at a time, each line noted once it is there."""
        from mlflow.entities import Metric

        rows, times = self._memory.pending(sources), self._directory.clock.read()
        sizes = accumulate(len(line) for _, line in rows)
        for _, some in groupby(zip(sizes, rows, strict=True), lambda pair: pair[0] // BATCH):
            lines = [row for _, row in some]
            metrics = [Metric(*point) for point in content.points((line for _, line in lines), times, self._started)]
            for part in content.chunks(metrics, BATCH):
                with only_writer(self._uri):
                    self._client.log_batch(self._run_id, metrics=part)
            for source, line in lines:
                self._memory.mark(source, line)
        return bool(rows)

    def _send_tags(self) -> bool:
        """Tags and status, after the numbers, so that a run that says that it is over has them all."""
        from mlflow.entities import RunTag

        run, client, run_id = self._run, self._client, self._run_id
        tags = content.tags(run, run_id)
        if self._memory.tags == checksum(tags):
            return False
        with only_writer(self._uri):
            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
            for name in self._there.data.tags.keys() & set(PASSING_TAGS) - tags.keys():
                client.delete_tag(run_id, name)
            if run.state.mlflow in ("RUNNING", "SCHEDULED"):
                client.update_run(run_id, status=run.state.mlflow)
            else:  # ended when the status says so; a killed run when it last wrote
                times = self._directory.clock.read().values() if run.state is State.KILLED else ()
                client.set_terminated(run_id, run.state.mlflow, max(times, default=self._updated))
        self._memory.tags = checksum(tags)
        return True

    def _send_files(self, paths: list[Path]) -> bool:
        """Those that are not there as they are here."""
        place = self._there.info.artifact_uri
        check_place(self._uri, place)
        names = [path.relative_to(self._directory.path) for path in filter(Path.exists, paths)]
        if (there := file_at(place)) is not None:
            refuse_links(there, [there / name for name in names])
        sums = {str(name): zlib.crc32(read_file(self._directory.path / name, LARGEST_JOURNAL)) for name in names}
        changed = [name for name, sum_here in sums.items() if self._memory.files.get(name) != sum_here]
        for name in changed:
            folder = name.rpartition("/")[0] or None
            self._client.log_artifact(self._run_id, str(self._directory.path / name), folder)
            self._memory.files[name] = sums[name]
        return bool(changed)


def _files_of(directory: RunDirectory) -> list[Path]:
    """All files of a run that MLflow gets, whether they are there or not, and the figures."""
    files = [directory.config, directory.facts, directory.environment, directory.code_diff, directory.origin]
    files += [directory.identity_path, directory.status_path, directory.log, directory.path_fit]
    figures = sorted(path for path in directory.figures.glob("*.*") if path.suffix in (".png", ".pdf"))
    journals = sorted([*directory.measurements.glob("*.json"), *directory.measurements.glob("[!.]*.jsonl")])
    return [*files, directory.training.path, directory.clock.path, *journals, *figures]
