"""The evaluation pass: a network over all examples of every split, once; what it leaves is a snapshot.

The training loop and `ncexp measure` both call `evaluate`: there is no second way to a number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ncexp.architectures import departure, name_of
from ncexp.collapse import (
    ClassStatisticsAccumulator,
    LinearClassifier,
    LinearMap,
    TargetStatistics,
    TargetStatisticsAccumulator,
    target_errors,
)
from ncexp.datasets import Dataset, Examples
from ncexp.datasets.augmentation import Augmentation
from ncexp.datasets.labelling import class_counts, kept_positions
from ncexp.measure.loaders import LoadedData
from ncexp.measure.probes import Probe, Probes
from ncexp.measure.ridge import Ridge, decays_of, ridge_of
from ncexp.measure.snapshot import MeasuredClasses, Snapshot, SplitSnapshot, as_stored
from ncexp.training import SINGLE, Assembly, Diverged, Objective, Processes, is_mean_of_targets, label_weights
from ncexp.training.averages import Averages
from ncexp.training.closures import buffers_kept
from ncexp.training.machine import seeded

#: Features of a split up to this size are kept from the pass; larger ones are computed a second time when asked for.
FEATURE_BUDGET_BYTES = 2**30
BATCH_SIZE = 512
#: Logits that are compared with W h + b at once: those of batches of 512 up to C = 16,384.
COMPARED = 2**23


@dataclass(frozen=True, eq=False)
class Subject:
    """What is evaluated: a network whose output is (logits, features), its loss, its data and the λ it trains with.

    Of a run on several processes each runs the network over a share, and all get the results of the whole; shared_out:
    whether the data of each process are its share already. criterion: the loss as it was built; decays: of parameters
    by name, as far as they are part of the objective (`decays_of`). Both None where nobody here trains it.
    augmentation: what the training makes of its images, None: nothing; it is not done to those evaluated. averages:
    whose means the network has, None: none.
    """

    network: nn.Module
    loss: Objective
    dataset: Dataset | LoadedData
    ridge: Ridge
    processes: Processes = SINGLE
    shared_out: bool = False
    criterion: object = None
    decays: Mapping[str, float] | None = None
    augmentation: Augmentation | None = None
    averages: Averages | None = None

    @property
    def splits(self) -> dict[str, Examples]:
        """By name, train first: its class means are the centres of NC4 on every split."""
        return self.dataset.splits

    @property
    def last_layer(self) -> nn.Linear:
        """The last layer as it is trained."""
        layer = self.network.classifier
        assert isinstance(layer, nn.Linear)
        return layer

    @cached_property
    def measured(self) -> MeasuredClasses | None:
        """Which of the outputs are measured; None for all. Collective: the labels of every split are read once."""
        chosen, outputs = self.dataset.labelling, self.dataset.num_classes
        if chosen.classes == "all":
            return None
        counts = [class_counts(name, data.labels.cpu(), outputs) for name, data in self.splits.items()]
        if self.shared_out:
            counts = [torch.tensor(self.processes.sum(one.tolist())) for one in counts]
        classes = chosen.measured(counts)
        assert classes is not None
        return MeasuredClasses(classes, outputs, chosen.min_examples)

    @property
    def num_measured(self) -> int:
        """How many classes are measured: K, of V outputs."""
        return self.dataset.num_classes if self.measured is None else len(self.measured.classes)

    def of_measured(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Those examples whose class is measured, (k, P) and (k,), with its number among the measured classes."""
        if self.measured is None:
            return features, labels
        numbers = self._numbers.to(labels.device)[labels]
        known = numbers >= 0
        if bool(known.all()):
            return features, numbers
        return features[known], numbers[known]

    @cached_property
    def _numbers(self) -> Tensor:
        """(V,): the number of each output among the measured classes, -1 for the others."""
        assert self.measured is not None
        numbers = torch.full((self.measured.outputs,), -1)
        numbers[self.measured.classes] = torch.arange(len(self.measured.classes))
        return numbers.to(self.last_layer.weight.device)

    @cached_property
    def label_weights(self) -> Tensor | None:
        """What each example's loss counts, by its label (C,); of targets 1 in all places; None for a loss of another
        form than a weighted mean.
        """
        weight = self.last_layer.weight
        if self.of_targets:
            alike = is_mean_of_targets(self.loss, weight)
            return torch.ones(1, dtype=torch.float64, device=weight.device) if alike else None
        found = label_weights(self.loss, weight)
        return None if found is None else found.to(weight.device)

    @property
    def of_targets(self) -> bool:
        """Whether the data have targets, not classes."""
        return self.dataset.targets is not None

    @property
    def classifier(self) -> LinearClassifier | LinearMap:
        """The last layer's numbers, float64, on the CPU."""
        layer = (self.last_layer.weight, self.last_layer.bias)
        weight, bias = (None if part is None else part.detach().cpu().double() for part in layer)
        assert weight is not None
        return LinearMap(weight, bias) if self.of_targets else LinearClassifier(weight, bias)


def subject_of(assembly: Assembly) -> Subject:
    """What an evaluation of these parts is of."""
    training = assembly.training
    ridge = ridge_of(training.optimizer, assembly.classifier, assembly.half_mse_scale, assembly.no_ridge)
    if ridge.weight > 0 and (notes := training.steps.ridge_notes()):
        ridge = replace(ridge, convention="; ".join([ridge.convention, *notes]))
    return Subject(
        training.network,
        training.loss,
        assembly.dataset,
        ridge,
        training.processes,
        criterion=assembly.criterion,
        decays=decays_of(training.optimizer, training.network),
        augmentation=training.augmentation,
        averages=training.averages,
    )


def evaluate(subject: Subject, epoch: int, probes: Mapping[str, Probe]) -> Snapshot:
    """Run the network in eval mode over all of every split, once; features that are small enough are kept as well.

    Raises Diverged where a feature is not finite, ValueError where the logits are not W h + b of the last layer.
    """
    splits = {name: evaluate_split(subject, data, probes) for name, data in subject.splits.items()}
    classifier, measured, targets = subject.classifier, subject.measured, subject.dataset.targets
    if measured is not None:
        bias = None if classifier.bias is None else classifier.bias[measured.classes]
        classifier = LinearClassifier(classifier.weight[measured.classes], bias)
    return Snapshot(epoch, splits, classifier, subject.ridge, measured, targets.scales if targets else None)


class Answers(NamedTuple):
    """Of one batch."""

    logits: Tensor
    """(m, V)."""
    features: Tensor
    """(m, P)."""
    labels: Tensor
    """(m,); of targets (m, ...)."""
    kept: Tensor | None
    """Of tokens (n, tokens) bool, with the m that have a class; None where labels are of whole examples."""


def forward(subject: Subject, data: Examples, order: Tensor | None = None) -> Iterator[Answers]:
    """A batch at a time, in eval mode; of the examples at the places `order`, or of this process's share of all.
    Batches of tokens none of which has a class are left out.
    """
    processes = subject.processes
    if order is None and processes.size > 1 and not subject.shared_out:
        order = torch.arange(processes.rank, len(data), processes.size)
    subject.network.eval()
    with torch.no_grad():
        for inputs, labels in data.batches(BATCH_SIZE, order):
            logits, features = subject.network(inputs)
            kept = None
            if not subject.of_targets:
                ignored = subject.dataset.labelling.ignore_index
                kept = labels != ignored if labels.dim() > 1 else None
                logits, features, labels = kept_positions(logits, features, labels, kept)
            if len(labels):
                yield Answers(logits, features, labels, kept)


def train_error_at_most(subject: Subject, share: float, suspects: Tensor) -> bool:
    """Whether at most this share of the training examples is decided wrongly in eval mode; collective.

    suspects: places of examples that are probably wrong. They are tried first, and the pass ends as soon as too many
    are found, so that "no" costs a few batches; only "yes" takes the whole training set.
    """
    data, processes = subject.splits["train"], subject.processes
    allowed = share * len(data)
    with buffers_kept(subject.network):
        if len(suspects) > allowed and processes.any(_wrong(forward(subject, data, suspects), allowed) > allowed):
            return False
        return processes.sum([_wrong(forward(subject, data), allowed)])[0] <= allowed


def _wrong(batches: Iterator[Answers], enough: float) -> int:
    """Wrong decisions in these batches; counted no further than to more than `enough`."""
    wrong = 0
    for logits, _, labels, _ in batches:
        wrong += int((logits.argmax(1) != labels).sum())
        if wrong > enough:
            break
    return wrong


@contextmanager
def undisturbed(network: nn.Module, seed: int) -> Iterator[None]:
    """Within it random generators are seeded; after it they, and each module's train or eval mode, are as before.

    So the training that goes on does not depend on what was measured, and a measurement is the same years later.
    """
    modes = {module: module.training for module in network.modules()}
    try:
        with seeded(seed):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def seed_of(*words: object) -> int:
    """A seed that depends on the words alone."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def evaluate_split(subject: Subject, data: Examples, probes: Mapping[str, Probe]) -> SplitSnapshot:
    """One split of `evaluate`, or other examples of the same classes. Raises as that."""
    last, num_classes = subject.last_layer, subject.num_measured
    device = last.weight.device
    accumulator: ClassStatisticsAccumulator | TargetStatisticsAccumulator = (
        TargetStatisticsAccumulator(last.in_features, num_classes, device=device)
        if subject.of_targets
        else ClassStatisticsAccumulator(num_classes, last.in_features, device=device)
    )
    watched = Probes(subject.network, probes, num_classes, len(subject.splits))
    loss = _LossOfSet(subject, device)
    wrong, examples = torch.zeros((), dtype=torch.int64, device=device), 0
    apart = torch.zeros((), dtype=torch.float64, device=device)
    kept, room = list[tuple[Tensor, Tensor]](), FEATURE_BUDGET_BYTES
    with watched.watching():
        for logits, features, labels, tokens in forward(subject, data):
            measured = subject.of_measured(features, labels)
            _update(accumulator, *measured)
            watched.update(labels, tokens, subject.of_measured)
            loss.update(logits, labels, features)
            if not subject.of_targets:
                wrong += (logits.argmax(1) != labels).sum()
            examples += len(labels)
            apart = apart.maximum(_apart(logits, features, last))
            room -= features.numel() * features.element_size()
            if room >= 0:
                kept.append(measured)
            else:
                kept.clear()
    if subject.processes.size > 1:
        accumulator.all_reduce()
        watched.all_reduce()
    total_loss, counted, total_wrong, total, anywhere = subject.processes.sum(
        [*loss.total(), wrong.item(), float(examples), apart.item()]
    )
    if anywhere:
        raise ValueError(
            f"{name_of(last, subject.network)}: expected logits W h + b of this last linear layer at every evaluation, "
            f"got others, {apart.item():.1e} of the largest logit away. What stands behind or beside it is trained or "
            "loaded as well; take it out of the network."
        )
    statistics = as_stored(accumulator.compute())
    error = unexplained(statistics, subject.classifier) if subject.of_targets else total_wrong / total
    return SplitSnapshot(
        statistics=statistics,
        loss=total_loss / counted,
        error=error,
        share=statistics.num_examples / total,
        layers={name: as_stored(layer) for name, layer in watched.compute().items()},
        probed=watched.probed,
        features=torch.cat([features for features, _ in kept]) if room >= 0 else None,
        labels=torch.cat([labels for _, labels in kept]) if room >= 0 else None,
    )


def unexplained(statistics: TargetStatistics, layer: Any) -> float:
    """Ave ‖ŷ − y‖² / Ave ‖y − ȳ‖², 1 − R² of all targets together; nan where none of them varies."""
    errors = target_errors(statistics, layer.weight, layer.bias).mean_squared_errors
    variance = float(statistics.target_covariance.trace())
    return max(float(errors.sum()), 0.0) / variance if variance > 0 else math.nan


def _apart(logits: Tensor, features: Tensor, last: nn.Linear) -> Tensor:
    """`departure` of rows that are compared some at a time: of a vocabulary's logits every copy is large."""
    height = max(1, COMPARED // logits.shape[1])
    rows = zip(logits.split(height), features.split(height), strict=True)
    return torch.stack([departure(*row, last.weight, last.bias).double() for row in rows]).max()


class _LossOfSet:
    """The loss of all examples of a split, met in batches: the mean of the batches', each counted by its labels' v.

    Of a loss that is no weighted mean, logits, labels and features are kept, and it is taken of all of them at once.
    """

    def __init__(self, subject: Subject, device: torch.device) -> None:
        self._loss, self._weights, self._layer = subject.loss, subject.label_weights, subject.last_layer
        self._sum, self._counted = torch.zeros(2, dtype=torch.float64, device=device)
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []
        self._room = FEATURE_BUDGET_BYTES
        if self._weights is None and subject.processes.size > 1:
            raise _other_loss(f"{subject.processes.size} processes, each with a share of them")

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, features: Tensor) -> None:
        if self._weights is not None:
            counted = self._weights.sum() * len(labels) if labels.is_floating_point() else self._weights[labels].sum()
            value = self._loss(logits, labels, features, self._layer).double() * counted
            self._sum += torch.where(counted > 0, value, 0.0)  # of ignored examples alone it is 0 / 0
            self._counted += counted
            return
        self._room -= sum(one.numel() * one.element_size() for one in (logits, features))
        if self._room < 0:
            raise _other_loss(f"a split whose logits and features take more than {FEATURE_BUDGET_BYTES:,} bytes")
        self._kept.append((logits, labels, features))

    @torch.no_grad()
    def total(self) -> tuple[float, float]:
        """The loss times what counts, and what counts; of this process's share."""
        if self._weights is not None:
            return self._sum.item(), self._counted.item()
        logits, labels, features = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        return float(self._loss(logits, labels, features, self._layer)), 1.0


def _other_loss(got: str) -> ValueError:
    return ValueError(
        "loss: expected a mean over the examples, each counted alike or by the weight of its label, or all examples at "
        f"once, got a sum, or a loss that takes its examples together, and {got}. Measure with a loss that is a mean."
    )


def _update(accumulator: Any, features: Tensor, labels: Tensor) -> None:
    try:
        accumulator.update(features, labels)
    except ValueError as error:
        if not bool(features.isfinite().all()):
            raise Diverged("a feature is not finite in eval mode") from error
        raise
