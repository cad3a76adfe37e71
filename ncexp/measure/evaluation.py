"""What an analysis sees of one split after an epoch, and the protocol that every analysis follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ncexp.collapse import ClassStatistics, LinearClassifier, SNRSpectrum
from ncexp.datasets import Examples
from ncexp.measure.evaluator import Pass, Subject, forward, seed_of, undisturbed
from ncexp.measure.probes import Probe
from ncexp.measure.ridge import Ridge
from ncexp.measure.snapshot import Snapshot
from ncexp.record import Record
from ncexp.training import Objective

#: What an analysis reads: a snapshot is enough; the features of all examples; or the network itself, loss and data.
Needs = Literal["statistics", "features", "network"]


class Analysis(Protocol):
    """Yields numbers of one split as (``family/quantity``, value); the caller puts the split's name before them.

    An analysis may also have `probes`, by name, the submodules whose statistics it needs, and `version`, an int that is
    raised when the same options give other or more numbers.
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
    kept_features: Tensor | None = None

    @property
    def statistics(self) -> ClassStatistics:
        """Of this split's features."""
        return self.snapshot.splits[self.split].statistics

    @property
    def class_means(self) -> Tensor:
        """The TRAIN class means (C, P), float64: the centres of NC4 on either split."""
        return self.snapshot.splits["train"].statistics.class_means

    @property
    def classifier(self) -> LinearClassifier:
        """The last layer, float64, on the CPU."""
        return self.snapshot.classifier

    @property
    def ridge(self) -> Ridge:
        """The λ of the decomposition."""
        return self.snapshot.ridge

    @property
    def mean_loss(self) -> float:
        """The training loss of this split, without decay."""
        return self.snapshot.splits[self.split].loss

    @property
    def error(self) -> float:
        """The share of this split's examples that are decided wrongly."""
        return self.snapshot.splits[self.split].error

    @property
    def spectrum(self) -> SNRSpectrum:
        """The SNR spectrum of this split, computed once for all analyses."""
        return self.snapshot.splits[self.split].spectrum

    def layer(self, probe: Probe) -> ClassStatistics:
        """The statistics of a probed submodule on this split."""
        return self.snapshot.splits[self.split].layers[probe.name]

    def features(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The split's features (m, P) and labels (m,), in its order: as kept from the pass, or computed again.

        Of a run on several processes, those of this one's share: what is counted over them goes through `total`.
        """
        if self.kept_features is not None and self._subject.processes.size == 1:
            yield self.kept_features, self.data.labels
            return
        for _, features, labels in forward(self._subject, self.data):
            yield features, labels

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
    def loss(self) -> Objective:
        """The training loss, without decay, as a function of logits, labels and features."""
        return self._subject.loss

    @cached_property
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


def run_analysis(analysis: Analysis, snapshot: Snapshot, subject: Subject | None, done: Pass | None = None) -> Record:
    """The record of one analysis at one epoch: every number of every split, ``<split>/<family>/<quantity>``.

    subject: None where the analysis needs statistics alone; done: the pass that the snapshot is of, if just made.
    """
    record: Record = {"epoch": snapshot.epoch}
    given = None if analysis.needs == "statistics" else subject
    for split in snapshot.splits:
        kept = done.features.get(split) if done is not None and given is not None else None
        evaluation = Evaluation(split, snapshot.epoch, snapshot, given, kept)
        if given is None:
            record |= {f"{split}/{name}": value for name, value in analysis(evaluation)}
        else:
            with undisturbed(given.network, seed_of(snapshot.epoch, split)):
                given.network.eval()
                record |= {f"{split}/{name}": value for name, value in analysis(evaluation)}
    return record
