"""What a sweep's command means, given what is there: which tasks to submit, and that they can be carried out at all."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ncexp.config import ConfigError, MeasureConfig, RunConfig, check_measurement
from ncexp.launching.slurm import Queue
from ncexp.launching.states import state_of
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.task import Task, check_task, run_of
from ncexp.record import DamagedFile, RunDirectory, State, TaskDirectory, format_counts, write_text
from ncexp.record.measurements import journal_of
from ncexp.tracking import may_write, prepare, tracking_uri


@dataclass(frozen=True)
class Asked:
    """One task as it was asked for: its checked configuration and the overrides that made it."""

    task: Task
    overrides: list[str]

    def entry(self, num: int, job: str | None = None) -> Entry:
        """Its line in a sweep's manifest."""
        task, run, directory = self.task, str(run_of(self.task)), str(self.task.directory)
        return Entry(
            num=num, name=task.name, key=task.key, directory=directory, run=run, overrides=self.overrides, job=job
        )

    def remaining(self) -> Asked:
        """What is left to do: where the training has ended, the measuring of analyses that have no numbers yet.

        Otherwise, and where nothing is left, the task itself.
        """
        task = self.task
        if not isinstance(task, RunConfig) or task.rerun == "all":
            return self
        directory, asked = RunDirectory(task.directory), {"analysis": task.raw.get("analysis"), "rerun": "missing"}
        measuring = check_measurement(
            {**asked, "run": str(task.directory), "device": task.device, "outputs": str(task.outputs)}
        )
        try:
            state, begun = directory.state(), TaskDirectory(measuring.directory).state()
        except DamagedFile:
            return self  # the plan says that it is damaged
        journals = [journal_of(directory.measurements, name, one) for name, one in measuring.analyses.items()]
        has_all = all(journal.path.exists() for journal in journals) and (begun is None or begun.final)
        if state is None or not state.final or has_all or not _is_left(measuring):
            return self
        return Asked(measuring, self.overrides)


def check_all(composed: Sequence[tuple[list[str], Mapping[str, Any]]]) -> list[Asked]:
    """Check every configuration, then that its parts fit together and its data are there.

    Combinations that come to the same task are one, which measures what each of them asks for. Raises ConfigError that
    names each faulty combination, and each that contradicts an earlier one of the same task.
    """
    asked: dict[str, Asked] = {}
    faults: dict[str, str] = {}
    for overrides, raw in composed:
        try:
            one = Asked(check_task(raw), overrides)
            place = str(one.task.directory)
            asked[place] = merged(asked[place], one) if place in asked else one
        except ConfigError as error:
            faults.setdefault(str(error), " ".join(overrides))
    faults = faults or faults_of_parts(list(asked.values()))
    if faults:
        lines = "\n".join(f"  {overrides}\n    {message}" for message, overrides in faults.items())
        raise ConfigError(f"nothing was begun; expected {len(composed)} runs that can be run, got\n{lines}")
    return list(asked.values())


def note_on_optimizers(asked: Sequence[Asked]) -> str:
    """A line to print where the runs of one sweep get different optimizers by default; empty otherwise."""
    words = [word for one in asked for word in one.overrides]
    counts = Counter(one.task.optimizer.name for one in asked if isinstance(one.task, RunConfig))
    if len(counts) < 2 or any(word.startswith(("optimizer=", "experiment=")) for word in words):
        return ""
    said = ", ".join(f"{name} in {count}" for name, count in sorted(counts.items()))
    return f"optimizer {said} of {len(asked)} runs, each by its own default. To compare them under one: optimizer=sgd"


def merged(first: Asked, second: Asked) -> Asked:
    """One task for two combinations that train the same weights: all analyses and evaluated epochs that they ask for.

    Raises ConfigError where they differ in anything else, as only one of them would be heeded.
    """
    ours, theirs = first.task.raw, second.task.raw
    if ours == theirs:
        return first
    merged = dict(ours)
    if "evaluate_at" in ours:
        merged["evaluate_at"] = sorted({*ours["evaluate_at"], *theirs["evaluate_at"]})
    merged["analysis"] = {**(theirs.get("analysis") or {}), **(ours.get("analysis") or {})}
    for name, one, other in _differences(merged, {**theirs, "evaluate_at": merged.get("evaluate_at")}):
        raise ConfigError(
            f"{name}: expected one value for one run, got {one!r} and {other!r} of combinations that train the same "
            f"weights, {first.task.name}_{first.task.key}. Leave one of them out."
        )
    return Asked(check_task(merged), list(dict.fromkeys([*first.overrides, *second.overrides])))


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], of: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, our value, theirs) of what `theirs` has otherwise."""
    for key, other in theirs.items():
        one = ours.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{of}{key}.")
        elif one != other:
            yield f"{of}{key}", one, other


def faults_of_parts(asked: Sequence[Asked]) -> dict[str, str]:
    """Faults that are found only by building the parts, or by reading the stored run: message → overrides.

    The parts are built once for each combination of them, each data set is opened once, and one at a time.
    """
    from ncexp.training import build_dataset  # torch takes seconds

    faults: dict[str, str] = {}
    built: set[str] = set()
    opened, dataset = "", None
    for one in sorted(asked, key=_data_of):
        try:
            if isinstance(one.task, MeasureConfig):
                _is_left(one.task)
            elif (parts := _parts_of(one.task)) not in built:
                built.add(parts)
                if opened != _data_of(one):
                    opened, dataset = _data_of(one), None
                dataset = dataset or build_dataset(one.task)
                _build(one.task, dataset)
        except ConfigError as error:
            faults.setdefault(str(error), " ".join(one.overrides))
    return faults


def _data_of(one: Asked) -> str:
    return json.dumps(one.task.dataset.identity(), sort_keys=True) if isinstance(one.task, RunConfig) else ""


def _parts_of(config: RunConfig) -> str:
    """What has to fit together, as one word."""
    parts = (config.dataset, config.architecture, config.loss, *config.analyses.values())
    choices = [value for value in config.optimizer.options.values() if not isinstance(value, float)]
    begun = {**config.start.identity(), **config.head.identity(), **config.augment.written(), **config.steps.identity()}
    together = [config.batch_size, config.optimizer.target, choices, begun, *(part.identity() for part in parts)]
    return json.dumps(together, sort_keys=True)


def _build(config: RunConfig, dataset: Any) -> None:
    from ncexp.measure import build_analyses, check_probes
    from ncexp.measure.stored import subject_of
    from ncexp.training import assemble

    # On the CPU: a login node need not have the GPUs, with their arithmetic, that the jobs will.
    assembly = assemble(replace(config, device="cpu", precision="fp32", compile=False), dataset)
    check_probes(build_analyses(config.analyses), subject_of(assembly))


@dataclass(frozen=True)
class Plan:
    """entries: all tasks of the sweep; states: how they stand, by number; to_submit: the numbers that need a job."""

    entries: list[Entry]
    states: dict[int, State]
    to_submit: list[int]

    def describe(self) -> str:
        """The counts, before anything happens."""
        left = [num for num in self.states if num not in set(self.to_submit)]
        return (
            f"{len(self.entries)} runs: {format_counts(self.states.values())}\n"
            f"to submit {len(self.to_submit)}: {format_counts(self.states[num] for num in self.to_submit)}; "
            f"left alone {len(left)}: {format_counts(self.states[num] for num in left)}"
        )


def make_plan(sweep: SweepDirectory, asked: Sequence[Asked], wanted: Collection[int], queue: Queue | None) -> Plan:
    """What is completed is skipped, what is running or queued is left alone, the rest is submitted, as `rerun` says.

    A measuring is skipped where nothing is left to measure, whatever its state. wanted: the numbers of the tasks that
    may be submitted.
    """
    jobs = {entry.num: entry.job for entry in sweep.entries()}
    entries = [one.entry(num, jobs.get(num)) for num, one in enumerate(asked)]
    states = {entry.num: state_of(entry.task, queue) for entry in entries}
    to_submit = [num for num in sorted(wanted) if _is_wanted(states[num], asked[num].task)]
    for entry in [entries[num] for num in to_submit]:
        try:
            entry.task.refuse_links()
        except DamagedFile:
            states[entry.num] = State.DAMAGED  # nothing is written into it, its log neither
            to_submit.remove(entry.num)
    return Plan(entries, states, to_submit)


def _is_wanted(state: State, task: Task) -> bool:
    if _is_left_alone(state):
        return False
    if isinstance(task, MeasureConfig):
        return _is_left(task)
    if state.final:
        return task.rerun == "all"
    return state is not State.FAILED or task.rerun != "none"


def _is_left(task: MeasureConfig) -> bool:
    """Whether something can be measured and is not. A damaged file counts as such: the measuring will name it.

    Raises ConfigError where nothing can be measured, as the run is not there.
    """
    from ncexp.measure import missing_epochs  # torch takes seconds

    try:
        return bool(missing_epochs(task))
    except DamagedFile:
        return True


def configured_stores(tasks: Sequence[Task]) -> set[str | None]:
    """The stores that the trainings among these tasks name; a run that is measured may be somebody else's."""
    return {task.tracking["uri"] for task in tasks if isinstance(task, RunConfig)}


def prepare_tracking(tasks: Sequence[Task]) -> None:
    """Make each MLflow store and its experiments once, before jobs that would all make them at the same time.

    A run that is measured is in its store already. Raises ConfigError where a store does not respond.
    """
    wanted: dict[tuple[str, Path], set[str]] = {}
    for task in tasks:
        if isinstance(task, RunConfig) and task.tracking["enabled"]:
            names = wanted.setdefault((tracking_uri(task.tracking["uri"], task.outputs), task.outputs), set())
            names.add(task.tracking["experiment"] or task.dataset.name)
    for (uri, outputs), experiments in wanted.items():
        if not may_write(uri):  # in a shell of a job, as with no launcher: each run says so, and keeps its journals
            continue
        try:
            prepare(uri, sorted(experiments), outputs)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"tracking.uri: expected a store that responds, got {uri} ({type(error).__name__}: {error}). "
                f"Start the server, or set tracking.enabled=false; `ncexp sync --uri {shlex.quote(uri)} "
                f"{shlex.quote(str(outputs))}` can upload the journals later."
            ) from error


def freeze(sweep: SweepDirectory, asked: Sequence[Asked], plan: Plan, console: Console) -> None:
    """Write the manifest, and the configuration of every task that will be submitted; a later edit changes nothing."""
    from ncexp.measure import measure_stored  # torch takes seconds

    sweep.write_entries(plan.entries)
    for num, one in enumerate(asked):
        task, entry, state = one.task, plan.entries[num], plan.states[num]
        if num in plan.to_submit:
            frozen = {**task.raw, "outputs": str(task.outputs)}
            if isinstance(task, MeasureConfig):
                frozen["run"] = str(task.run)
                entry.task.status_path.unlink(missing_ok=True)  # it says how an earlier measuring ended
            else:
                if task.rerun == "all" and state is not State.NEW:  # what is to be trained anew is removed
                    RunDirectory(task.directory).clear()
                # Forgotten once, here: a requeued job must go on, not begin anew again.
                frozen["rerun"] = "failed"
            write_text(sweep.configuration(num), yaml.safe_dump(frozen, sort_keys=False, allow_unicode=True))
        elif isinstance(task, MeasureConfig) and not (state.final or _is_left_alone(state)):
            # Nothing is left to measure: that is noted here, without a job; what cannot be had is printed.
            state, message = measure_stored(task, console, lambda: False)
            entry.task.set_status(state, message=message)


def _is_left_alone(state: State) -> bool:
    return state.active or state in (State.UNKNOWN, State.DAMAGED)
