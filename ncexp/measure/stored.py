"""`ncexp measure`: analyses of a stored run, from the snapshots and weights that it kept; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ncexp.config import Component, ConfigError, MeasureConfig, check_analyses, stored_run
from ncexp.config.trusted_code import refuse_strange_code
from ncexp.measure.evaluation import Analysis, build_analyses, check_probes, probes_of, run_analysis, with_errors
from ncexp.measure.evaluator import Subject, evaluate, seed_of, subject_of, undisturbed
from ncexp.measure.snapshot import Snapshot, load_snapshot, with_known_layers
from ncexp.record import DamagedFile, Journal, RunDirectory, State, TaskDirectory, counted, read_config, set_aside
from ncexp.record.measurements import begin, journal_of
from ncexp.record.tensor_file import DamagedTensors, UnusableFile, read_header
from ncexp.training import Assembly, assemble, load_weights
from ncexp.training.machine import restore_threads

#: The entry of config.yaml by which a run is known as that of a loop of one's own.
MARK = "recorder"
#: Snapshot; network, loss and data where an analysis needs them.
Input = tuple[Snapshot, Subject | None]


@dataclass
class Plan:
    """What is to be measured: analysis → epochs; sentences for people of what cannot be; files that are refused, and
    why.
    """

    todo: dict[str, list[int]] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    refused: dict[Path, Exception] = field(default_factory=dict)

    @property
    def epochs(self) -> list[int]:
        """All epochs of `todo`, ascending."""
        return sorted({epoch for epochs in self.todo.values() for epoch in epochs})

    @property
    def damaged(self) -> list[Path]:
        """The refused files that nobody can use, as they lie there."""
        return sorted(p for p, error in self.refused.items() if isinstance(error, DamagedTensors) and p.exists())


def measure_stored(config: MeasureConfig, console: Console, stop: Callable[[], bool]) -> tuple[State, str]:
    """Measure what is missing; returns the state that the measuring ended in, and a sentence, which it prints.

    Completed: everything that the kept files allow is measured, and of every analysis something is. Failed: an analysis
    has no input at any epoch, or a file is refused; what can be measured is. Interrupted: `stop()` came; the same
    command goes on. Each number is the one that the training itself would have found, to the last bit on the same
    machine with as many threads. The state is noted in the measuring's own directory, where anything was missing.

    Raises ConfigError for a configuration that cannot be run, Busy where another process measures this run or holds
    this measuring.
    """
    stored = _Stored(config)
    plan, count = stored.plan(), 0
    if not (begun := bool(plan.epochs)) and not plan.damaged:
        state, message = _summarise(plan, 0, console)
    else:
        task = TaskDirectory(config.directory)
        with task.locked(), stored.directory.locked_measurements():
            state, message = State.FAILED, ""
            try:
                plan = stored.plan()
                for epoch in counted(plan.epochs, "epochs"):
                    if stop():
                        state, message = State.INTERRUPTED, f"{count} measured; the same command goes on from here"
                        break
                    for name, given in stored.inputs(epoch, plan):
                        row = run_analysis(stored.analyses[name], *given)
                        if getattr(stored.analyses[name], "keeps_examples", False):
                            stored.keep_examples(given[0], plan)
                        stored.journal(name).put(row, replace=config.rerun == "all")
                        count += 1
                else:
                    for path in plan.damaged:  # so that they are not met again
                        error = f"{plan.refused[path]} It is {set_aside(path).name} now."
                        plan.refused[path] = UnusableFile(error)
                    state, message = _summarise(plan, count, console)
            except BaseException as error:
                message = f"{type(error).__name__}: {error}"
                raise
            finally:
                if begun:
                    task.set_status(state, message=message)
    console.print(f"measure   {state}: {message}", soft_wrap=True, markup=False)  # of an error says whoever catches it
    return state, message


def missing_epochs(config: MeasureConfig) -> list[int]:
    """The epochs at which something can be measured and is not; empty where nothing is left to do."""
    return _Stored(config).plan().epochs


class _Stored:
    """One run on the disk and the analyses asked for; network and data are built only where an analysis needs them.

    Raises ConfigError, or DamagedFile, for a run that names code which nobody here chose, or leads elsewhere by a link.
    """

    def __init__(self, config: MeasureConfig) -> None:
        self.directory = RunDirectory(config.run)
        if not self.directory.config.exists():
            raise ConfigError(f"run: expected a run directory, got {config.run} without config.yaml.")
        self._raw: dict[str, Any] = read_config(self.directory.config)
        refuse_strange_code({"analysis": self._raw.get("analysis", {})}, self.directory.config)
        self.directory.refuse_links()
        self._config = config
        asked = config.analyses or check_analyses(self._raw.get("analysis"))
        self._components: dict[str, Component] = with_errors(asked)
        self.analyses: dict[str, Analysis] = build_analyses(self._components)
        self._assembly: Assembly | None = None

    def plan(self) -> Plan:
        """What is missing, by analysis; a snapshot or checkpoint that cannot be used is named."""
        plan, directory = Plan(), self.directory
        snapshots = self._usable(directory.kept_snapshots(), directory.snapshot, "snapshot", plan)
        weights = self._usable(directory.kept_checkpoints(), directory.checkpoint, "weights", plan)
        evaluated = journal_of(directory.measurements, "errors", self._components["errors"]).epochs()
        in_training = self._measured_by_training()
        for name, analysis in self.analyses.items():
            if name in in_training:
                plan.lacking.append(f"{name}: the training that goes on measures it itself")
                continue
            journal = journal_of(directory.measurements, name, self._components[name])
            done = set() if self._config.rerun == "all" else journal.epochs()
            possible = weights.keys() | {e for e, header in snapshots.items() if self._is_enough(header, analysis)}
            plan.todo[name] = sorted(possible - done)
            if lacking := evaluated - possible - done:
                plan.lacking.append(self._explain(name, analysis, sorted(possible | done), len(lacking)))
        return plan

    def journal(self, name: str) -> Journal:
        """Where the rows of this analysis go."""
        return begin(self.directory.measurements, name, self._components[name])

    def inputs(self, epoch: int, plan: Plan) -> Iterator[tuple[str, Input]]:
        """What each analysis of this epoch reads: the stored snapshot where it is enough, else also network and data.

        Analyses of which a file is refused are left out; the plan names the file.
        """
        rest = {name: self.analyses[name] for name, epochs in plan.todo.items() if epoch in epochs}
        stored = self._snapshot(epoch, plan)
        for name, analysis in [*rest.items()]:
            if stored is not None and analysis.needs == "statistics" and stored.has(probes_of({name: analysis})):
                del rest[name]
                yield name, (stored, None)
        if rest and (given := self._with_network(epoch, rest, stored, plan)):
            yield from ((name, given) for name in rest)

    def keep_examples(self, measured: Snapshot, plan: Plan) -> None:
        """Into the epoch's snapshot, of which nothing else changes, the examples that `Portrait` has kept."""
        snapshot = self._snapshot(measured.epoch, plan) or measured
        for name, split in snapshot.splits.items():
            split.examples.update(measured.splits[name].examples)
        snapshot.save(self.directory.snapshot(measured.epoch), self.directory.key)

    def _with_network(
        self, epoch: int, analyses: dict[str, Analysis], stored: Snapshot | None, plan: Plan
    ) -> Input | None:
        """Network and data and, unless the stored snapshot is enough, a pass over the data."""
        probes, place = probes_of(analyses), self.directory.checkpoint(epoch)
        try:
            assembly = self._assembled()
            load_weights(place, assembly.training.network, self.directory.key)
            subject = subject_of(assembly)
            check_probes(analyses, subject)
            if stored is not None and stored.has(probes) and all(one.needs != "features" for one in analyses.values()):
                return stored, subject
            with undisturbed(subject.network, seed_of(epoch)):
                return evaluate(subject, epoch, probes), subject
        except (FileNotFoundError, UnusableFile) as error:
            if isinstance(error, UnusableFile) or self.directory.snapshot(epoch) not in plan.refused:
                plan.refused[place] = error
        return None

    def _snapshot(self, epoch: int, plan: Plan) -> Snapshot | None:
        """The stored snapshot; None where there is none, or one that is refused: then the weights must do."""
        place = self.directory.snapshot(epoch)
        try:
            return None if place in plan.refused else self._as_known(load_snapshot(place, self.directory.key))
        except FileNotFoundError:
            pass
        except UnusableFile as error:
            plan.refused[place] = error
        return None

    def _is_enough(self, header: dict[str, Any], analysis: Analysis) -> bool:
        """Whether the snapshot with this header has all that the analysis reads."""
        probes, splits = getattr(analysis, "probes", {}).values(), header.get("splits", {}).values()
        parts = [
            split if self._knows(split) else {"layers": with_known_layers(split["layers"]).values()} for split in splits
        ]
        return analysis.needs == "statistics" and all(
            probe.modules_in(part) is not None for probe in probes for part in parts
        )

    def _knows(self, split: Mapping[str, Any]) -> bool:
        """Whether the layers' names say what was averaged: those of now, and of ncexp's own networks, of images."""
        target = str(self._raw.get("architecture", {}).get("_target_", ""))
        own = target.startswith("ncexp.architectures.") and not target.startswith("ncexp.architectures.by_name.")
        return own or bool(split.get("probed"))

    def _as_known(self, snapshot: Snapshot) -> Snapshot:
        splits = {}
        for name, split in snapshot.splits.items():
            renamed = {} if self._knows({"probed": split.probed}) else with_known_layers(split.layers)
            layers = {renamed.get(layer, layer): statistics for layer, statistics in split.layers.items()}
            splits[name] = replace(split, layers=layers)
        return replace(snapshot, splits=splits)

    def _assembled(self) -> Assembly:
        if self._assembly is None:
            restore_threads(self.directory)
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

    def _usable(
        self, epochs: list[int], place: Callable[[int], Path], kind: str, plan: Plan
    ) -> dict[int, dict[str, Any]]:
        """The headers of the files that can be used, by epoch; the others go to the plan."""
        headers = {}
        for epoch in epochs:
            try:
                header = read_header(place(epoch), kind, self.directory.key)
                if header["epoch"] != epoch:
                    found = f"expected the {kind} of epoch {epoch}, got those of epoch {header['epoch']}"
                    raise UnusableFile(f"{place(epoch)}: {found}.")
                headers[epoch] = header
            except UnusableFile as error:
                plan.refused[place(epoch)] = error
        return headers

    def _measured_by_training(self) -> set[str]:
        """The analyses that a training which is under way computes itself."""
        if self.directory.actual_state() is not State.RUNNING:
            return set()
        chosen = with_errors(check_analyses(self._raw.get("analysis")))
        asked = self._components
        return {name for name, one in chosen.items() if name in asked and one.key == asked[name].key}

    def _explain(self, name: str, analysis: Analysis, has: list[int], count: int) -> str:
        """Which epochs an analysis can have, why `count` others have none, and what to keep the next time."""
        of_snapshots = analysis.needs == "statistics" and not getattr(analysis, "probes", {})
        listed = ", ".join(map(str, has))
        epochs = "no epoch" if not has else f"epoch {listed}" if len(has) == 1 else f"epochs {listed}"
        lack = "neither a snapshot nor weights" if of_snapshots else "no weights"
        others = "1 other evaluated epoch has" if count == 1 else f"{count} other evaluated epochs have"
        if MARK in self._raw:
            next_time = "A Recorder keeps no weights: next time name it in ncexp.Recorder(analyses=...)."
        elif self.directory.origin.exists():
            next_time = "Ask for it in the command that measured the checkpoints (`ncexp measure checkpoints=...`)."
        else:
            next_time = f"Next time train with keep.{'snapshots' if of_snapshots else 'checkpoints'}=evaluated."
        return f"{name}: can be had at {epochs}; {others} {lack}. {next_time}"


def _summarise(plan: Plan, count: int, console: Console) -> tuple[State, str]:
    """Print what cannot be measured and why; the state is failed where a person has to do something about it."""
    for line in [*plan.refused.values(), *plan.lacking]:
        console.print(f"measure   {line}", soft_wrap=True, markup=False)
    without = [line.partition(":")[0] for line in plan.lacking if "at no epoch" in line]
    if plan.refused:
        files = "1 file is" if len(plan.refused) == 1 else f"{len(plan.refused)} files are"
        return State.FAILED, f"{count} measured, all that the other files allow; {files} refused, nothing was deleted"
    if without:
        return State.FAILED, f"{count} measured; no input for {', '.join(without)}"
    return State.COMPLETED, f"{count} measured" if count else "nothing to measure: all that can be had is there"
