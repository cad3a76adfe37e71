"""What a sweep's command means, given what is there: which runs to submit, and that they can be run at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ncexp.config import ConfigError, RunConfig, check
from ncexp.files import write_atomically
from ncexp.launching.states import ACTIVE, state_of, tell_counts
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.run_directory import FINISHED, RunDirectory
from ncexp.tracking import mark_superseded, prepare, tracking_uri


@dataclass(frozen=True)
class Asked:
    """One run as it was asked for: its checked configuration and the overrides that made it."""

    config: RunConfig
    overrides: list[str]


def check_all(composed: Sequence[tuple[list[str], Mapping[str, Any]]]) -> list[Asked]:
    """Check every configuration, then that its parts fit together and its data are there.

    Two combinations that come to the same run are one. Raises ConfigError that tells each faulty combination.
    """
    asked: dict[str, Asked] = {}
    faults: dict[str, str] = {}
    for overrides, raw in composed:
        try:
            config = check(raw)
            asked.setdefault(str(config.directory), Asked(config, overrides))
        except ConfigError as error:
            faults.setdefault(str(error), " ".join(overrides))
    if not faults:
        faults = _faults_of_parts(list(asked.values()))
    if faults:
        lines = "\n".join(f"  {overrides}\n    {message}" for message, overrides in faults.items())
        raise ConfigError(f"nothing was submitted; expected {len(composed)} runs that can be run, got\n{lines}")
    return list(asked.values())


def _faults_of_parts(asked: Sequence[Asked]) -> dict[str, str]:
    """Build the parts once for each combination of those that must fit together; message → overrides."""
    from ncexp.assembly import assemble, build_dataset  # torch takes seconds

    faults: dict[str, str] = {}
    by_dataset: dict[str, dict[str, Asked]] = {}
    for one in asked:
        config = one.config
        parts = [config.architecture, config.loss, config.optimizer]
        together = json.dumps([config.batch_size, *(part.identity() if part.group != "optimizer" else part.target
                                                    for part in parts)], sort_keys=True)  # fmt: skip
        dataset = json.dumps(config.dataset.identity(), sort_keys=True)
        by_dataset.setdefault(dataset, {}).setdefault(together, one)
    for group in by_dataset.values():
        dataset_of_group = None
        for one in group.values():
            try:
                # On the CPU: a login node need not have the GPUs, with their arithmetic, that the jobs will.
                config = replace(one.config, device="cpu", precision="fp32", compile=False)
                dataset_of_group = dataset_of_group or build_dataset(config)
                assemble(config, dataset_of_group)
            except ConfigError as error:
                faults.setdefault(str(error), " ".join(one.overrides))
                if dataset_of_group is None:
                    break
    return faults


@dataclass(frozen=True)
class Plan:
    """entries: all runs of the sweep; states: how they stand, by number; to_submit: the numbers that need a job."""

    entries: list[Entry]
    states: dict[int, str]
    to_submit: list[int]

    def tell(self) -> str:
        """The counts, before anything happens."""
        left = [num for num in self.states if num not in set(self.to_submit)]
        return (
            f"{len(self.entries)} runs: {tell_counts(self.states.values())}\n"
            f"to submit {len(self.to_submit)}: {tell_counts(self.states[num] for num in self.to_submit)}; "
            f"left alone {len(left)}: {tell_counts(self.states[num] for num in left)}"
        )


def make_plan(sweep: SweepDirectory, asked: Sequence[Asked], queue: Mapping[str, str] | None) -> Plan:
    """Who is completed is skipped, who is running or queued is left alone, the rest is submitted, as `rerun` says."""
    jobs = {entry.num: entry.job for entry in sweep.entries()}
    entries = [
        Entry(
            num=num,
            name=one.config.name,
            key=one.config.key,
            directory=str(one.config.directory),
            overrides=one.overrides,
            job=jobs.get(num),
        )
        for num, one in enumerate(asked)
    ]
    states = {entry.num: state_of(entry.run, queue) for entry in entries}
    to_submit = [num for num, one in enumerate(asked) if _is_wanted(states[num], one.config.rerun)]
    return Plan(entries, states, to_submit)


def _is_wanted(state: str, rerun: str) -> bool:
    if state in ACTIVE or state == "unknown":
        return False
    if state in FINISHED:
        return rerun == "all"
    return state != "failed" or rerun != "none"


def prepare_tracking(asked: Sequence[Asked]) -> None:
    """Make each MLflow store and its experiments once, before jobs that would all make them at the same time.

    Raises ConfigError where a store does not answer.
    """
    wanted: dict[tuple[str, Path], set[str]] = {}
    for one in asked:
        tracking, outputs = one.config.tracking, one.config.outputs
        if tracking["enabled"]:
            names = wanted.setdefault((tracking_uri(tracking["uri"], outputs), outputs), set())
            names.add(tracking["experiment"] or one.config.dataset.name)
    for (uri, outputs), experiments in wanted.items():
        try:
            prepare(uri, sorted(experiments), outputs)
        except Exception as error:
            raise ConfigError(
                f"tracking.uri: expected a store that answers, got {uri} ({type(error).__name__}: {error}). "
                "Start the server, or set tracking.enabled=false; `ncexp sync` can send the journals later."
            ) from error


def freeze(sweep: SweepDirectory, asked: Sequence[Asked], plan: Plan) -> None:
    """Write the manifest, and the configuration of every run that will be submitted; a later edit changes nothing."""
    sweep.write_entries(plan.entries)
    sweep.configuration(0).parent.mkdir(exist_ok=True)
    for num in plan.to_submit:
        config = asked[num].config
        if config.rerun == "all" and plan.states[num] != "new":
            mark_superseded(RunDirectory(config.directory))
            RunDirectory(config.directory).clear()
        # Forgotten once, here: a requeued job must go on, not begin anew again.
        frozen = {**config.raw, "outputs": str(config.outputs), "rerun": "failed"}
        text = yaml.safe_dump(frozen, sort_keys=False, allow_unicode=True).encode()
        write_atomically(sweep.configuration(num), lambda file, text=text: file.write(text))  # type: ignore[misc]
