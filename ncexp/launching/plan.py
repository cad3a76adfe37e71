"""What a sweep's command means, given what is there: which tasks to submit, and that they can be carried out at all."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ncexp.config import ConfigError, MeasureConfig, RunConfig
from ncexp.launching.parts import faults_of_parts
from ncexp.launching.slurm import Queue
from ncexp.launching.states import state_of
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.task import Task, check_task, measuring_of, run_of
from ncexp.record import DamagedFile, RunDirectory, State, TaskDirectory, format_counts, write_text
from ncexp.record.measurements import journal_of
from ncexp.tracking import may_write, prepare, tracking_uri


@dataclass(frozen=True)
class Asked:
    """One task as it was asked for: its checked configuration and the overrides that made it."""

    task: Task
    overrides: list[str]

    def remaining(self) -> Asked:
        """Of a training that is through, the measuring of what is asked for and has no numbers yet; else the same."""
        if not isinstance(self.task, RunConfig) or self.task.rerun == "all":
            return self
        directory, measuring = RunDirectory(self.task.directory), measuring_of(self.task)
        try:
            state, begun = directory.state(), TaskDirectory(measuring.directory).state()
        except DamagedFile:
            return self  # the plan says that it is damaged
        if state is None or not state.final:
            return self
        journals = [journal_of(directory.measurements, name, one) for name, one in measuring.analyses.items()]
        if all(journal.path.exists() for journal in journals) and (begun is None or begun.final):
            return self
        return Asked(measuring, self.overrides) if _is_left(measuring) else self


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
            asked[place] = _merged(asked[place], one) if place in asked else one
        except ConfigError as error:
            faults.setdefault(str(error), " ".join(overrides))
    faults = faults or _faults_of_parts(list(asked.values()))
    if faults:
        lines = "\n".join(f"  {overrides}\n    {message}" for message, overrides in faults.items())
        raise ConfigError(f"nothing was begun; expected {len(composed)} runs that can be run, got\n{lines}")
    return list(asked.values())


def note_on_optimizers(asked: Sequence[Asked]) -> str:
    """A line where one sweep has several optimizers by default, as its networks, data or losses differ; else ""."""
    words = [word for one in asked for word in one.overrides]
    counts = Counter(one.task.optimizer.name for one in asked if isinstance(one.task, RunConfig))
    if len(counts) < 2 or any(word.startswith(("optimizer=", "experiment=")) for word in words):
        return ""
    said = ", ".join(f"{name} in {count}" for name, count in sorted(counts.items()))
    return f"optimizer {said} of {len(asked)} runs, each by its own default. To compare them under one: optimizer=sgd"


def _merged(first: Asked, second: Asked) -> Asked:
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


def _faults_of_parts(asked: Sequence[Asked]) -> dict[str, str]:
    """Message → overrides, of what only the parts, or the stored run, can tell."""
    overrides = {str(one.task.directory): " ".join(one.overrides) for one in asked}
    found = faults_of_parts(one.task for one in asked if isinstance(one.task, RunConfig))
    faults = {message: overrides[str(config.directory)] for config, message in reversed(found)}
    for one in asked:
        if isinstance(one.task, MeasureConfig):
            try:
                _is_left(one.task)
            except ConfigError as error:
                faults.setdefault(str(error), " ".join(one.overrides))
    return faults


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


def make_plan(sweep: SweepDirectory, asked: Sequence[Asked], queue: Queue | None) -> Plan:
    """What is completed is skipped, what is running or queued is left alone, the rest is submitted, as `rerun` says.

    Of measurings those are skipped of which nothing is left to measure, whatever their state.
    """
    jobs = {entry.num: entry.job for entry in sweep.entries()}
    entries = [
        Entry(
            num=num,
            name=one.task.name,
            key=one.task.key,
            directory=str(one.task.directory),
            run=str(run_of(one.task)),
            overrides=one.overrides,
            job=jobs.get(num),
        )
        for num, one in enumerate(asked)
    ]
    states = {entry.num: state_of(entry.task, queue) for entry in entries}
    to_submit = [num for num, one in enumerate(asked) if _is_wanted(states[num], one.task)]
    for entry in [entries[num] for num in to_submit]:
        try:
            entry.task.refuse_links()
        except DamagedFile:
            states[entry.num] = State.DAMAGED  # nothing is written into it, its log neither
            to_submit.remove(entry.num)
    return Plan(entries, states, to_submit)


def _is_wanted(state: State, task: Task) -> bool:
    if state.active or state in (State.UNKNOWN, State.DAMAGED):
        return False
    if isinstance(task, MeasureConfig):
        return _is_left(task)
    if state.final:
        return task.rerun == "all"
    return state is not State.FAILED or task.rerun != "none"


def _is_left(task: MeasureConfig) -> bool:
    """Whether something can be measured and is not; also where a file is damaged: the measuring itself names it.

    Raises ConfigError where nothing can, as the run is not there.
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
    sweep.write_entries(plan.entries)
    for num in plan.to_submit:
        task = asked[num].task
        frozen = {**task.raw, "outputs": str(task.outputs)}
        if isinstance(task, MeasureConfig):
            frozen["run"] = str(task.run)
            plan.entries[num].task.status_path.unlink(missing_ok=True)  # it says how an earlier measuring ended
        else:
            _make_ready(task, plan.states[num])
            # Forgotten once, here: a requeued job must go on, not begin anew again.
            frozen["rerun"] = "failed"
        write_text(sweep.configuration(num), yaml.safe_dump(frozen, sort_keys=False, allow_unicode=True))
    for num, one in enumerate(asked):
        state = plan.states[num]
        settled = state.final or state.active or state in (State.UNKNOWN, State.DAMAGED)
        if isinstance(one.task, MeasureConfig) and num not in plan.to_submit and not settled:
            _settle(one.task, plan.entries[num], console)


def _make_ready(task: RunConfig, state: State) -> None:
    """Remove what is to be trained anew."""
    if task.rerun == "all" and state is not State.NEW:
        RunDirectory(task.directory).clear()


def _settle(task: MeasureConfig, entry: Entry, console: Console) -> None:
    """Nothing is left to measure: note it here, without a job; what cannot be had is printed."""
    from ncexp.measure import measure_stored

    state, message = measure_stored(task, console, lambda: False)
    entry.task.set_status(state, message=message)
