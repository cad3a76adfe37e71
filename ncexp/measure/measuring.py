"""Analyses at work on one run: built from their components, applied to an evaluated epoch, written to its journals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

import torch

from ncexp.config import Component, ConfigError
from ncexp.measure.evaluation import Analysis, Needs, probes_of, run_analysis
from ncexp.measure.evaluator import Pass, Subject, buffers_kept, evaluate, seed_of, undisturbed
from ncexp.measure.probes import Probes
from ncexp.record import Record, RunDirectory
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


class Measuring:
    """Evaluates a run's network after chosen epochs, while it trains.

    components: the analyses by name; keeps: whether the snapshot of an epoch is kept.
    """

    def __init__(
        self,
        directory: RunDirectory,
        components: Mapping[str, Component],
        subject: Subject,
        keeps: Callable[[int], bool],
    ) -> None:
        self._components = with_errors(components)
        self._analyses = build_analyses(self._components)
        check_probes(self._analyses, subject)
        self._directory, self._subject, self._keeps = directory, subject, keeps

    def widths(self) -> list[int]:
        """P of the features and of every probed submodule, found with two examples."""
        subject = self._subject
        probes = Probes(subject.network, probes_of(self._analyses), subject.dataset.num_classes)
        inputs, _ = next(subject.splits["train"].batches(2))
        with undisturbed(subject.network, 0), probes.watching(), torch.no_grad():
            subject.network.eval()
            _, features = subject.network(inputs)
        return [features.shape[1], *probes.widths()]

    def errors(self) -> list[Record]:
        """What the journal of loss and error holds."""
        return journal_of(self._directory.measurements, "errors", ERRORS).read()

    def places(self) -> list[str]:
        """The journals that it writes, by their paths in the run's directory."""
        folder = self._directory.measurements
        journals = (journal_of(folder, name, component) for name, component in self._components.items())
        return [str(journal.path.relative_to(self._directory.path)) for journal in journals]

    def epoch(self, epoch: int, replace: bool = False) -> Record:
        """Evaluate, keep the snapshot, write every journal; returns all numbers of the epoch.

        replace: write them also where the epoch is on record already. Of several processes the first writes. Raises
        Diverged where a feature is not finite.
        """
        with undisturbed(self._subject.network, seed_of(epoch)), buffers_kept(self._subject.network):
            done = evaluate(self._subject, epoch, probes_of(self._analyses))
            if self._subject.processes.first and self._keeps(epoch):
                done.snapshot.save(self._directory.snapshot(epoch), self._directory.key)
            record: Record = {"epoch": epoch}
            for name in self._analyses:
                record |= self._measure(name, done, replace)
            return record

    def _measure(self, name: str, done: Pass, replace: bool) -> Record:
        record = run_analysis(self._analyses[name], done.snapshot, self._subject, done)
        if self._subject.processes.first:
            begin(self._directory.measurements, name, self._components[name]).put(record, replace)
        return record
