"""What an analysis sees of one split after an epoch, the protocol that every analysis follows, and analyses at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from rich.filesize import decimal
from torch import Tensor, nn

from ncexp.collapse import ClassStatistics, LinearClassifier, LinearMap, SNRSpectrum, TargetStatistics
from ncexp.config import Component, ConfigError, Keep, RunConfig
from ncexp.datasets import Examples
from ncexp.measure.evaluator import Subject, buffers_kept, evaluate, forward, seed_of, undisturbed
from ncexp.measure.loaders import LoadedData
from ncexp.measure.probes import Probe, Probes, refuse_other_labels
from ncexp.measure.ridge import Ridge
from ncexp.measure.snapshot import Snapshot, SplitSnapshot, snapshot_bytes
from ncexp.record import Record, RunDirectory
from ncexp.record.measurements import begin, journal_of

#: What an analysis reads: a snapshot is enough; the features of all examples; or the network itself, loss and data.
Needs = Literal["statistics", "features", "network"]
Kind = Literal["snapshots", "checkpoints"]
#: What probes are tried on before a run. A first axis of this length is the batch.
CHECKED_EXAMPLES = 3
#: Measured of every run, whatever else is chosen.
ERRORS = Component(group="analysis.errors", name="errors", target="ncexp.measure.analyses.LossAndError", options={})


class Analysis(Protocol):
    """Yields numbers of one split as (``family/quantity``, value); the caller puts the split's name before them.

    An analysis may also have `probes`, by name, the submodules whose statistics it needs; `version`, an int that is
    raised when the same options give other or more numbers; `split`, under which its numbers stand in place of the one
    that it was called with; `of_targets` = True where it can measure a regression, `of_tokens` = True where what needs
    the network takes labels of tokens; and a method `check(subject)`, called before the first epoch, that raises
    ValueError, its message begun with the option's name, for what cannot be measured.
    """

    needs: Needs

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]: ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One split after one epoch.

    split: "train" or "test"; epoch: the epochs trained. What needs more than statistics has also: `features`, and for
    needs = "network": `network`, `loss` (logits, labels, features) and `data`.
    """

    split: str
    epoch: int
    snapshot: Snapshot
    subject: Subject | None = None

    @property
    def _here(self) -> SplitSnapshot:
        return self.snapshot.splits[self.split]

    @property
    def of_targets(self) -> bool:
        """Whether the data have targets, not classes."""
        return isinstance(self._here.statistics, TargetStatistics)

    @property
    def statistics(self) -> ClassStatistics:
        """Of this split's features. Raises ValueError where the data have targets."""
        return self._here.of_classes

    @property
    def target_statistics(self) -> TargetStatistics:
        """Of this split's features and targets."""
        return self._here.of_targets

    @property
    def class_means(self) -> Tensor:
        """The TRAIN class means (C, P), float64: the centres of NC4 on either split."""
        return self.snapshot.splits["train"].of_classes.class_means

    @property
    def classifier(self) -> LinearClassifier:
        """The last layer of classes, float64, on the CPU."""
        assert isinstance(self.snapshot.classifier, LinearClassifier)
        return self.snapshot.classifier

    @property
    def last_layer(self) -> LinearMap:
        """The last layer, of classes or targets, float64, on the CPU."""
        return LinearMap(self.snapshot.classifier.weight, self.snapshot.classifier.bias)

    @property
    def whole_classifier(self) -> LinearClassifier:
        """The last layer with all its outputs, also where not all are measured; of what needs more than statistics."""
        found = self._subject.classifier
        assert isinstance(found, LinearClassifier)
        return found

    @property
    def ridge(self) -> Ridge:
        """The λ of the decomposition."""
        return self.snapshot.ridge

    @property
    def mean_loss(self) -> float:
        """The training loss of this split, without decay."""
        return self._here.loss

    @property
    def error(self) -> float:
        """The share of this split's examples that are decided wrongly."""
        return self._here.error

    @property
    def spectrum(self) -> SNRSpectrum:
        """The SNR spectrum of this split, computed once for all analyses."""
        return self._here.spectrum

    def layers(self, probes: Mapping[str, Probe]) -> dict[str, ClassStatistics]:
        """Submodule → its statistics on this split, of all submodules that these probes stand for, in their order."""
        here, found = self._here, dict[str, ClassStatistics]()
        for probe in probes.values():
            for module in probe.modules_in({"layers": here.layers, "probed": here.probed}) or []:
                found[module] = here.layers[f"{module} {probe.reduce}"]
        return found

    def features(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The split's features (m, P) and labels (m,), in its order: as kept from the pass, or computed again.

        Of a run on several processes, those of this one's share: what is counted over them goes through `total`.
        """
        kept, subject = self._here, self._subject
        if subject.processes.size == 1 and kept.features is not None and kept.labels is not None:
            yield kept.features, kept.labels
        else:
            for one in forward(subject, self.data):
                yield subject.of_measured(one.features, one.labels)

    def probed(self, probes: Mapping[str, Probe]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Submodule → its features, and labels (m,), a batch at a time: the network runs again. Of several processes
        each has its share, as in `features`. probes: with one reduction.
        """
        subject = self._subject
        watched = Probes(self.network, probes, subject.num_measured)
        with watched.watching():
            for _, _, labels, tokens in forward(subject, self.data):
                found, numbers = dict[str, Tensor](), labels
                for name, features in watched.features(len(labels), tokens).items():
                    found[watched.places[name]], numbers = subject.of_measured(features, labels)
                yield found, numbers

    def total(self, *counts: float) -> list[float]:
        """Counts over `features` → counts over the split; collective."""
        return self._subject.processes.sum(counts)

    @property
    def device(self) -> torch.device:
        """Where network, data and features are."""
        return self.data.labels.device

    @property
    def network(self) -> nn.Module:
        """The network, in eval mode; its output is (logits, features)."""
        return self._subject.network

    @property
    def loss(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The training loss, without decay, as a function of logits, labels and features."""
        return partial(self._subject.loss, layer=self._subject.last_layer)

    @property
    def data(self) -> Examples:
        """The examples of this split."""
        return self._subject.splits[self.split]

    @property
    def _subject(self) -> Subject:
        if self.subject is None:
            raise ValueError(
                "needs: expected 'features' or 'network' of an analysis that reads them, got 'statistics'."
            )
        return self.subject


def probes_of(analyses: Mapping[str, Analysis]) -> dict[str, Probe]:
    """The probes of all analyses, by name."""
    found = (getattr(analysis, "probes", {}) for analysis in analyses.values())
    return {name: probe for probes in found for name, probe in probes.items()}


def run_analysis(analysis: Analysis, snapshot: Snapshot, subject: Subject | None) -> Record:
    """The row of one analysis at one epoch: every number of every split, ``<split>/<family>/<quantity>``.

    subject: what the snapshot is of, as it was then; None where the analysis needs statistics alone.
    """
    row: Record = {"epoch": snapshot.epoch}
    given = None if analysis.needs == "statistics" else subject
    for split in snapshot.splits:
        with nullcontext() if given is None else undisturbed(given.network, seed_of(snapshot.epoch, split)):
            if given is not None:
                given.network.eval()
            for name, value in analysis(Evaluation(split, snapshot.epoch, snapshot, given)):
                row[f"{getattr(analysis, 'split', split)}/{name}"] = value
    return row


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
    """Raises ConfigError where an analysis of classes is to measure targets, wants a submodule that the network lacks,
    or whose output is not known, or more than fits in memory: now, not after an epoch. For the last two the network is
    run on a few examples, unless they come from a loader, whose order is not ours to disturb. An analysis with a method
    `check` looks at more.
    """
    labelling = subject.dataset.labelling
    for name, analysis in analyses.items():
        if subject.of_targets and not getattr(analysis, "of_targets", False):
            able = "collapse, decisions, decomposition, central_path, norms"
            raise ConfigError(
                f"analysis.{name}: expected analyses of targets, which these data have, got one of classes. Choose of "
                f"{able}; one of your own says by of_targets = True that it measures them."
            )
        of_tokens = labelling.shift_labels is not None
        if of_tokens and analysis.needs == "network" and not getattr(analysis, "of_tokens", False):
            raise ConfigError(
                f"analysis.{name}: expected labels of whole examples, for what needs the network itself, got "
                f"shift_labels={labelling.shift_labels}. Leave {name} out."
            )
        try:
            if hasattr(analysis, "check"):
                analysis.check(subject)
            asked = probes_of({name: analysis})
            refuse_other_labels(asked.values(), of_tokens)
            probes = Probes(subject.network, asked, subject.num_measured if asked else 1)
            if probes.probed and not isinstance(subject.dataset, LoadedData):
                _widths(subject, probes)
        except ValueError as error:
            raise ConfigError(f"analysis.{name}.{error}") from error


class EpochEvaluator:
    """Evaluates a run's network after chosen epochs; components: the analyses by name, to which `errors` is added."""

    def __init__(self, directory: RunDirectory, components: Mapping[str, Component], subject: Subject) -> None:
        self._components = with_errors(components)
        self._analyses = build_analyses(self._components)
        check_probes(self._analyses, subject)
        self._probes = probes_of(self._analyses)
        self._directory, self._subject = directory, subject
        #: Analysis → its journal.
        self.journals = {name: journal_of(directory.measurements, name, c) for name, c in self._components.items()}

    def facts(self) -> dict[str, Any]:
        """What analyses have to say in facts.json."""
        return {name: fact for one in self._analyses.values() for name, fact in getattr(one, "facts", {}).items()}

    def describe_kept(self, config: RunConfig) -> str:
        """How many snapshots and weights stay on the disk, and how many bytes they take."""
        keep, network, num_classes = config.keep, self._subject.network, self._subject.num_measured
        probes = Probes(network, self._probes, num_classes)
        widths = _widths(self._subject, probes)
        snapshots, weights = _count(config, keep.snapshots), _count(config, keep.checkpoints)
        per_snapshot = snapshot_bytes(num_classes, widths)
        per_weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        total = decimal(snapshots * per_snapshot + weights * per_weights)
        sizes = decimal(per_snapshot), decimal(per_weights)
        return f"{snapshots} snapshots of {sizes[0]}, {weights} checkpoints of {sizes[1]}: {total} in all"

    def evaluate(self, epoch: int) -> tuple[Snapshot, dict[str, Record]]:
        """One pass and all analyses: (snapshot, analysis → its row); nothing is written. Raises as `evaluate`."""
        with undisturbed(self._subject.network, seed_of(epoch)), buffers_kept(self._subject.network):
            snapshot = evaluate(self._subject, epoch, self._probes)
            rows = {name: run_analysis(one, snapshot, self._subject) for name, one in self._analyses.items()}
            return snapshot, rows

    def begin_journals(self) -> None:
        """Write what the key of each journal stands for beside it, where it is not there."""
        for name, component in self._components.items():
            begin(self._directory.measurements, name, component)

    def write(self, epoch: int, keeps_snapshot: bool, replace: bool = False) -> tuple[Snapshot, Record]:
        """Evaluate and write the journals and, if it is kept, the snapshot; returns it and all numbers of the epoch.

        replace: write them also where the epoch is on record already. Of several processes the first writes.
        """
        snapshot, rows = self.evaluate(epoch)
        if self._subject.processes.first:
            if keeps_snapshot:
                snapshot.save(self._directory.snapshot(epoch), self._directory.key)
            self.begin_journals()
            for name, row in rows.items():
                self.journals[name].put(row, replace)
        return snapshot, all_numbers(rows)


def _widths(subject: Subject, probes: Probes) -> list[int]:
    """P of the features and of each probe's, from a pass over a few examples, which leaves the network as it was."""
    network = subject.network
    inputs, labels = next(subject.splits["train"].batches(CHECKED_EXAMPLES))
    tokens = torch.ones_like(labels, dtype=torch.bool) if labels.dim() > 1 and not subject.of_targets else None
    with undisturbed(network, 0), buffers_kept(network), probes.watching(), torch.no_grad():
        network.eval()
        return [network(inputs)[1].shape[-1], *probes.check(len(labels), tokens)]


def kept_files(
    directory: RunDirectory, keep: Keep, epoch: int, last: int, zero_error: int | None = None
) -> dict[Kind, Path]:
    """The files that stay of an epoch: "snapshots" or "checkpoints" → its place; the arguments are those of `keeps`."""
    places: dict[Kind, Path] = {"snapshots": directory.snapshot(epoch), "checkpoints": directory.checkpoint(epoch)}
    return {kind: path for kind, path in places.items() if keep.keeps(kind, epoch, last, zero_error)}


def all_numbers(rows: Mapping[str, Record]) -> Record:
    """The rows of one epoch as one."""
    return {name: value for row in rows.values() for name, value in row.items()}


def _count(config: RunConfig, kept: str | list[int]) -> int:
    if isinstance(kept, str):
        return {"evaluated": len(config.evaluated), "zero_error": 2, "last": 1}[kept]
    return len(set(kept))
