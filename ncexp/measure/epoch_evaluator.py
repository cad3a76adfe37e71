"""Analyses of one run: built from their components, and applied to its network as it stands after an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from rich.filesize import decimal

from ncexp.config import Component, ConfigError, RunConfig
from ncexp.measure.evaluation import Analysis, Needs, probes_of, run_analysis
from ncexp.measure.evaluator import Subject, buffers_kept, evaluate, seed_of, undisturbed
from ncexp.measure.probes import Probes
from ncexp.measure.snapshot import Snapshot, snapshot_bytes
from ncexp.record import Journal, Record, RunDirectory
from ncexp.record.measurements import begin, journal_of

#: Measured of every run, whatever else is chosen.
ERRORS = Component(group="analysis.errors", name="errors", target="ncexp.measure.analyses.LossAndError", options={})


def with_errors(analyses: Mapping[str, Component]) -> dict[str, Component]:
    """These analyses, and loss and error before them."""
    return {"errors": ERRORS, **analyses}


def build_analyses(components: Mapping[str, Component]) -> dict[str, Analysis]:
    """Each analysis from its component. Raises ConfigError for an option it refuses, or one that lacks `needs`."""
    built: dict[str, Analysis] = {}
    for name, component in components.items():
        try:
            built[name] = component.build()
        except ValueError as error:
            raise ConfigError(f"analysis.{name}: {error}") from error
        needs = getattr(built[name], "needs", None)
        if needs not in get_args(Needs):
            raise ConfigError(
                f"analysis.{name}: expected an analysis with needs = one of {', '.join(get_args(Needs))}, got "
                f"{needs!r}. Add the attribute to {component.target}."
            )
    return built


def check_probes(analyses: Mapping[str, Analysis], subject: Subject) -> None:
    """Raises ConfigError where an analysis wants a submodule that the network lacks: now, not after an epoch."""
    for name, analysis in analyses.items():
        try:
            Probes(subject.network, probes_of({name: analysis}), subject.dataset.num_classes)
        except ValueError as error:
            raise ConfigError(f"analysis.{name}.{error}") from error


@dataclass(frozen=True)
class EvaluatedEpoch:
    """An epoch after its evaluation; rows: analysis → its row."""

    snapshot: Snapshot
    rows: dict[str, Record]

    @property
    def record(self) -> Record:
        """All numbers together."""
        return {name: value for row in self.rows.values() for name, value in row.items()}


class EpochEvaluator:
    """Evaluates a run's network after chosen epochs; components: the analyses by name, to which `errors` is added."""

    def __init__(self, directory: RunDirectory, components: Mapping[str, Component], subject: Subject) -> None:
        self._components = with_errors(components)
        self._analyses = build_analyses(self._components)
        check_probes(self._analyses, subject)
        self._directory, self._subject = directory, subject

    def widths(self) -> list[int]:
        """P of the features and of every probed submodule, found with two examples."""
        subject = self._subject
        probes = Probes(subject.network, probes_of(self._analyses), subject.dataset.num_classes)
        inputs, _ = next(subject.splits["train"].batches(2))
        with undisturbed(subject.network, 0), probes.watching(), torch.no_grad():
            subject.network.eval()
            _, features = subject.network(inputs)
        return [features.shape[1], *probes.widths()]

    def describe_kept(self, config: RunConfig) -> str:
        """How many snapshots and weights stay on the disk, and how many bytes they take."""
        keep, subject = config.keep, self._subject
        snapshots, weights = _count(config, keep.snapshots), _count(config, keep.checkpoints)
        per_snapshot = snapshot_bytes(subject.dataset.num_classes, self.widths())
        per_weights = sum(tensor.numel() * tensor.element_size() for tensor in subject.network.state_dict().values())
        total = snapshots * per_snapshot + weights * per_weights
        return (
            f"{snapshots} snapshots of {decimal(per_snapshot)}, {weights} checkpoints of {decimal(per_weights)}: "
            f"{decimal(total)} in all"
        )

    def places(self) -> dict[str, str]:
        """Analysis → its journal, by the path in the run's directory."""
        folder = self._directory.measurements
        journals = {name: journal_of(folder, name, one) for name, one in self._components.items()}
        return {name: str(one.path.relative_to(self._directory.path)) for name, one in journals.items()}

    def evaluate(self, epoch: int) -> EvaluatedEpoch:
        """One pass and all analyses; nothing is written. Raises Diverged where a feature is not finite."""
        with undisturbed(self._subject.network, seed_of(epoch)), buffers_kept(self._subject.network):
            done = evaluate(self._subject, epoch, probes_of(self._analyses))
            rows = {name: run_analysis(one, done.snapshot, self._subject, done) for name, one in self._analyses.items()}
            return EvaluatedEpoch(done.snapshot, rows)

    def begin_journals(self) -> dict[str, Journal]:
        """Analysis → its journal, with what its key stands for beside it."""
        folder = self._directory.measurements
        return {name: begin(folder, name, component) for name, component in self._components.items()}

    def write(self, epoch: int, keeps_snapshot: bool, replace: bool = False) -> Record:
        """Evaluate and write the journals and, if it is kept, the snapshot; returns all numbers of the epoch.

        replace: write them also where the epoch is on record already. Of several processes the first writes.
        """
        evaluated = self.evaluate(epoch)
        if self._subject.processes.first:
            if keeps_snapshot:
                evaluated.snapshot.save(self._directory.snapshot(epoch), self._directory.key)
            for name, journal in self.begin_journals().items():
                journal.put(evaluated.rows[name], replace)
        return evaluated.record


def _count(config: RunConfig, kept: str | list[int]) -> int:
    if isinstance(kept, str):
        return {"evaluated": len(config.evaluated), "zero_error": 2, "last": 1}[kept]
    return len(set(kept))
