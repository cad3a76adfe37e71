"""`ncexp measure`: analyses of a stored run, from the snapshots and weights that it kept; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ncexp.config import Component, ConfigError, MeasureConfig, RunConfig, check_analyses, stored_run
from ncexp.config.trusted_code import refuse_strange_code
from ncexp.measure.evaluation import Analysis, probes_of, run_analysis
from ncexp.measure.evaluator import Pass, Subject, evaluate, seed_of, undisturbed
from ncexp.measure.measuring import build_analyses, check_probes, with_errors
from ncexp.measure.own_loop import MARK
from ncexp.measure.ridge import ridge_of
from ncexp.measure.snapshot import Snapshot, load_snapshot
from ncexp.record import DamagedFile, RunDirectory, State, TaskDirectory, counted, read_config, set_aside
from ncexp.record.inventory import (
    FOLDERS,
    Inventory,
    describe_missing,
    missing_from,
)
from ncexp.record.measurements import begin, journal_of
from ncexp.record.tensor_file import DamagedTensors, UnusableFile, read_header
from ncexp.training import Assembly, assemble, load_weights
from ncexp.training.machine import restore_threads


@dataclass
class Plan:
    """What is to be measured: analysis → epochs; and what cannot be: sentences for people, files that are refused (of
    these the damaged ones), what the record had and has no more.
    """

    todo: dict[str, list[int]] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    damaged: set[Path] = field(default_factory=set)
    lost: str = ""

    @property
    def epochs(self) -> list[int]:
        """All epochs of `todo`, ascending."""
        return sorted({epoch for epochs in self.todo.values() for epoch in epochs})

    def refuse(self, path: Path, error: Exception) -> None:
        """Note that a file cannot be used, and why."""
        self.refused[path] = str(error)
        if isinstance(error, DamagedTensors):
            self.damaged.add(path)

    def set_damaged_aside(self) -> None:
        """Rename the damaged files, so that they are not met again; nobody else works on them meanwhile."""
        for path in sorted(filter(Path.exists, self.damaged)):
            self.refused[path] += f" It is {set_aside(path).name} now."


def measure_stored(config: MeasureConfig, console: Console, stop: Callable[[], bool]) -> tuple[State, str]:
    """Measure what is missing; returns the state that the measuring ended in, and a sentence.

    Completed: everything that the kept files allow is measured, and of every analysis something is. Failed: an analysis
    has no input at any epoch, or a file is refused; what can be measured is. Interrupted: `stop()` came; the same
    command goes on. Each number is the one that the training itself would have found, to the last bit on the same
    machine with as many threads.

    Raises ConfigError for a configuration that cannot be run, Busy where another process measures this run or holds
    this measuring.
    """
    stored = _Stored(config, ours=False)
    plan = stored.plan()
    if not plan.epochs and not plan.damaged:
        return _summarise(plan, 0, console)
    with TaskDirectory(config.directory).locked(), stored.directory.measuring():
        plan = stored.plan()
        count = 0
        for epoch in counted(plan.epochs, "epochs"):
            if stop():
                return State.INTERRUPTED, f"{count} measured; the same command goes on from here"
            names = [name for name, epochs in plan.todo.items() if epoch in epochs]
            count += stored.measure(epoch, names, plan)
        plan.set_damaged_aside()
    return _summarise(plan, count, console)


def missing_epochs(config: MeasureConfig) -> list[int]:
    """The epochs at which something can be measured and is not; empty where nothing is left to do."""
    return _Stored(config, ours=False).plan().epochs


def restore_missing(config: RunConfig, missing: Inventory) -> list[str]:
    """Write again what a run that is to be resumed lacks: snapshots from weights, numbers from either.

    Returns a sentence for each file that cannot be used; damaged ones are set aside. The run's lock is held.
    """
    asked = MeasureConfig(
        run=config.directory,
        analyses=config.analyses,
        device=config.device,
        outputs=config.outputs,
        rerun="missing",
        raw={},
    )
    stored = _Stored(asked, ours=True)
    plan = stored.plan_of(missing)
    for epoch in sorted(missing.get("snapshots", set()) & set(stored.directory.kept_checkpoints())):
        stored.write_snapshot(epoch, plan)
    for epoch in plan.epochs:
        stored.measure(epoch, [name for name, epochs in plan.todo.items() if epoch in epochs], plan)
    plan.set_damaged_aside()
    return list(plan.refused.values())


class _Stored:
    """One run on the disk and the analyses asked for; network and data are built only where an analysis needs them.

    ours: whether the caller trains it itself; others' runs name no code that nobody chose, and lead nowhere by links.
    """

    def __init__(self, config: MeasureConfig, *, ours: bool) -> None:
        self.directory = RunDirectory(config.run)
        if not self.directory.config.exists():
            raise ConfigError(f"run: expected a run directory, got {config.run} without config.yaml.")
        self._raw: dict[str, Any] = read_config(self.directory.config)
        if not ours:
            refuse_strange_code({"analysis": self._raw.get("analysis", {})}, self.directory.config)
            self.directory.refuse_links()
        self._config, self._ours = config, ours
        asked = config.analyses or check_analyses(self._raw.get("analysis"))
        self._components: dict[str, Component] = with_errors(asked)
        self._analyses: dict[str, Analysis] = build_analyses(self._components)
        self._assembly: Assembly | None = None

    def plan(self) -> Plan:
        """What is missing, by analysis; a snapshot or checkpoint that cannot be used is named."""
        plan = Plan()
        snapshots = self._usable(self.directory.kept_snapshots(), self.directory.snapshot, "snapshot", plan)
        weights = self._usable(self.directory.kept_checkpoints(), self.directory.checkpoint, "weights", plan)
        errors = journal_of(self.directory.measurements, "errors", self._components["errors"])
        covered = self.directory.covered_epoch()
        evaluated = {epoch for epoch in errors.epochs() if epoch <= covered}
        in_training = self._measured_by_training()
        for name, analysis in self._analyses.items():
            if name in in_training:
                plan.lacking.append(f"{name}: the training that goes on measures it itself")
                continue
            journal = journal_of(self.directory.measurements, name, self._components[name])
            done = set() if self._config.rerun == "all" else journal.epochs()
            possible = _possible(analysis, snapshots, weights)
            plan.todo[name] = sorted(possible - done)
            if lacking := evaluated - possible - done:
                sentence = _explain(name, analysis, sorted(possible | done), len(lacking))
                plan.lacking.append(f"{sentence} {self._next_time(analysis)}")
                plan.lost = self._lost_files(lacking)
        return plan

    def plan_of(self, missing: Inventory) -> Plan:
        """What of these missing numbers can be measured."""
        plan = Plan()
        snapshots = self._usable(self.directory.kept_snapshots(), self.directory.snapshot, "snapshot", plan)
        weights = self._usable(self.directory.kept_checkpoints(), self.directory.checkpoint, "weights", plan)
        for name, analysis in self._analyses.items():
            journal = journal_of(self.directory.measurements, name, self._components[name])
            lacking = missing.get(str(journal.path.relative_to(self.directory.path)), set())
            plan.todo[name] = sorted(_possible(analysis, snapshots, weights) & lacking)
        return plan

    def write_snapshot(self, epoch: int, plan: Plan) -> None:
        """The snapshot of an epoch whose weights are kept, as the training writes it."""
        try:
            done = self._evaluate(epoch, self._analyses)
        except UnusableFile as error:
            plan.refuse(self.directory.checkpoint(epoch), error)
        else:
            done.snapshot.save(self.directory.snapshot(epoch), self.directory.key)

    def measure(self, epoch: int, names: list[str], plan: Plan) -> int:
        """The analyses at one epoch, into their journals; returns how many were measured.

        Where the weights are refused, those that the snapshot is enough for.
        """
        try:
            snapshot, subject, done = self._input(epoch, names, plan)
        except FileNotFoundError as error:
            if self.directory.snapshot(epoch) not in plan.refused:
                plan.refuse(self.directory.checkpoint(epoch), error)
            return 0
        except UnusableFile as error:
            plan.refuse(self.directory.checkpoint(epoch), error)
            enough = self._from_snapshot(epoch, names, plan)
            return self.measure(epoch, enough, plan) if enough else 0
        for name in names:
            record = run_analysis(self._analyses[name], snapshot, subject, done)
            journal = begin(self.directory.measurements, name, self._components[name])
            journal.put(record, replace=self._config.rerun == "all")
        return len(names)

    def _from_snapshot(self, epoch: int, names: list[str], plan: Plan) -> list[str]:
        """Those of the analyses that need nothing but the stored snapshot."""
        stored = self._snapshot(epoch, plan)
        if stored is None:
            return []
        analyses = ((name, self._analyses[name]) for name in names)
        return [name for name, one in analyses if one.needs == "statistics" and stored.has(probes_of({name: one}))]

    def _input(self, epoch: int, names: list[str], plan: Plan) -> tuple[Snapshot, Subject | None, Pass | None]:
        """The stored snapshot, and, where one of the analyses needs them, the network and a pass over the data."""
        analyses = {name: self._analyses[name] for name in names}
        stored = self._snapshot(epoch, plan)
        if stored is not None and not stored.has(probes_of(analyses)):
            stored = None
        if stored is not None and all(analysis.needs == "statistics" for analysis in analyses.values()):
            return stored, None, None
        if stored is not None and all(analysis.needs != "features" for analysis in analyses.values()):
            return stored, self._with_weights(epoch, analyses), None
        done = self._evaluate(epoch, analyses)
        return done.snapshot, subject_of(self._assembled()), done

    def _evaluate(self, epoch: int, analyses: dict[str, Analysis]) -> Pass:
        subject = self._with_weights(epoch, analyses)
        with undisturbed(subject.network, seed_of(epoch)):
            return evaluate(subject, epoch, probes_of(analyses))

    def _with_weights(self, epoch: int, analyses: dict[str, Analysis]) -> Subject:
        assembly = self._assembled()
        load_weights(self.directory.checkpoint(epoch), assembly.training.network, self.directory.key)
        subject = subject_of(assembly)
        check_probes(analyses, subject)
        return subject

    def _snapshot(self, epoch: int, plan: Plan) -> Snapshot | None:
        """The stored snapshot; None where there is none, or one that is refused: then the weights must do."""
        place = self.directory.snapshot(epoch)
        if place in plan.refused:
            return None
        try:
            return load_snapshot(place, self.directory.key)
        except FileNotFoundError:
            return None
        except UnusableFile as error:
            plan.refuse(place, error)
            return None

    def _assembled(self) -> Assembly:
        if self._assembly is None:
            restore_threads(self.directory)
            if not self._ours:
                refuse_strange_code(self._raw, self.directory.config)
            config = stored_run(self._raw)
            foreign = self.directory.origin.exists()  # of which the key is that of the files, too
            if not foreign and config.key != self.directory.key:
                raise DamagedFile(
                    f"{self.directory.config}: expected the configuration of training {self.directory.key}, got that "
                    f"of {config.key}. Set it aside: the command that trained the run writes it again."
                )
            self._assembly = assemble(replace(config, device=self._config.device), trains=False)
        return self._assembly

    def _lost_files(self, epochs: set[int]) -> str:
        """Of these epochs: the snapshots and weights that the record had and has no more, in words."""
        noted = self.directory.noted_inventory()
        kept: Inventory = {place: noted.get(place, set()) & epochs for place in FOLDERS}
        return describe_missing(missing_from(self.directory.inventory(), kept))

    def _usable(
        self, epochs: list[int], place: Callable[[int], Path], kind: str, plan: Plan
    ) -> dict[int, dict[str, Any]]:
        """The headers of the files that can be used, by epoch; the others go to the plan."""
        headers = {}
        for epoch in epochs:
            try:
                header = read_header(place(epoch), kind, self.directory.key)
            except UnusableFile as error:
                plan.refuse(place(epoch), error)
                continue
            if header["epoch"] == epoch:
                headers[epoch] = header
            else:
                found = f"expected the {kind} of epoch {epoch}, got those of epoch {header['epoch']}"
                plan.refused[place(epoch)] = f"{place(epoch)}: {found}."
        return headers

    def _next_time(self, analysis: Analysis) -> str:
        """What to do, or to keep the next time, to have it."""
        if MARK in self._raw:
            return "A Recorder keeps no weights: next time name it in ncexp.Recorder(analyses=...)."
        if self.directory.origin.exists():
            return "Ask for it in the command that measured the checkpoints (`ncexp measure checkpoints=...`)."
        kept = "snapshots" if _lives_on_snapshots(analysis) else "checkpoints"
        return f"Next time train with keep.{kept}=evaluated."

    def _measured_by_training(self) -> set[str]:
        """The analyses that a training which is under way computes itself."""
        if self.directory.actual_state() is not State.RUNNING:
            return set()
        chosen = with_errors(check_analyses(self._raw.get("analysis")))
        asked = self._components
        return {name for name, one in chosen.items() if name in asked and one.key == asked[name].key}


def subject_of(assembly: Assembly) -> Subject:
    """What an evaluation of these parts is of."""
    training = assembly.training
    ridge = ridge_of(training.optimizer, assembly.classifier, assembly.half_mse_scale)
    return Subject(training.network, training.loss, assembly.dataset, ridge, training.processes)


def _possible(analysis: Analysis, snapshots: dict[int, dict[str, Any]], weights: dict[int, dict[str, Any]]) -> set[int]:
    """The epochs at which what is kept is enough for an analysis."""
    possible = set(weights)
    if analysis.needs == "statistics":
        probes = set(getattr(analysis, "probes", {}))
        possible |= {epoch for epoch, header in snapshots.items() if probes <= _layers(header)}
    return possible


def _layers(header: dict[str, Any]) -> set[str]:
    """The probes whose statistics are in a snapshot with this header."""
    of_splits = [set(split["layers"]) for split in header.get("splits", {}).values()]
    return set.intersection(*of_splits) if of_splits else set()


def _lives_on_snapshots(analysis: Analysis) -> bool:
    return analysis.needs == "statistics" and not getattr(analysis, "probes", {})


def _explain(name: str, analysis: Analysis, has: list[int], count: int) -> str:
    """Which epochs an analysis can have."""
    listed = ", ".join(map(str, has))
    epochs = "no epoch" if not has else f"epoch {listed}" if len(has) == 1 else f"epochs {listed}"
    lack = "neither a snapshot nor weights" if _lives_on_snapshots(analysis) else "no weights"
    others = "1 other evaluated epoch has" if count == 1 else f"{count} other evaluated epochs have"
    return f"{name}: can be had at {epochs}; {others} {lack}."


def _summarise(plan: Plan, count: int, console: Console) -> tuple[State, str]:
    """Print what cannot be measured and why; the state is failed where a person has to do something about it."""
    for line in [*plan.refused.values(), *plan.lacking]:
        console.print(f"measure   {line}", soft_wrap=True, markup=False)
    without = [line.partition(":")[0] for line in plan.lacking if "at no epoch" in line]
    if plan.refused:
        files = "1 file is" if len(plan.refused) == 1 else f"{len(plan.refused)} files are"
        return State.FAILED, f"{count} measured, all that the other files allow; {files} refused, nothing was deleted"
    if plan.lost:
        return State.FAILED, f"{count} measured, all that is left allows; lost: {plan.lost}"
    if without:
        return State.FAILED, f"{count} measured; no input for {', '.join(without)}"
    return State.COMPLETED, f"{count} measured" if count else "nothing to measure: all that can be had is there"
