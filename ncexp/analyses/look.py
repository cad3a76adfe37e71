"""One look at one split: a single pass in eval mode from which every analysis reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ncexp.analyses.probes import Probes
from ncexp.collapse import (
    ClassStatistics,
    ClassStatisticsAccumulator,
    LinearClassifier,
    SNRSpectrum,
    snr_spectrum,
)
from ncexp.datasets import Examples
from ncexp.distributed import SINGLE, Processes
from ncexp.interruption import Diverged
from ncexp.ridge import Ridge

#: Features of a split up to this size are kept from the pass; larger ones are computed a second time when asked for.
FEATURE_BUDGET_BYTES = 2**30
BATCH_SIZE = 512


@dataclass(frozen=True)
class Look:
    """What an analysis sees of a split after an epoch.

    split: "train" or "test"; epoch: the epochs trained; statistics: of this split's features; class_means: the TRAIN
    class means (C, P), float64, the centres of NC4 on either split; classifier: the last layer; loss: the training loss
    without decay; error: the share of examples decided wrongly; ridge: the λ of the decomposition; layers: statistics
    of the probed submodules.
    """

    split: str
    epoch: int
    statistics: ClassStatistics
    class_means: Tensor
    classifier: LinearClassifier
    ridge: Ridge
    loss: float
    error: float
    layers: dict[str, ClassStatistics]
    network: nn.Module
    data: Examples
    kept_features: Tensor | None
    processes: Processes = SINGLE

    @cached_property
    def spectrum(self) -> SNRSpectrum:
        """The SNR spectrum of this split, computed once for all analyses."""
        return snr_spectrum(self.statistics)

    def features(self) -> Iterator[Tensor]:
        """The split's features (m, P) in its order: as kept from the pass, or in batches of a second one.

        Of a run on several processes, those of this one's share: what is counted over them goes through `total`.
        """
        if self.kept_features is not None:
            yield self.kept_features
            return
        for _, features, _ in _forward(self.network, self.data, self.processes):
            yield features

    def total(self, *counts: float) -> list[float]:
        """Counts over `features` → counts over the split; collective."""
        return self.processes.sum(counts)


def take_look(
    split: str,
    epoch: int,
    network: nn.Module,
    data: Examples,
    loss: object,
    ridge: Ridge,
    num_classes: int,
    probes: Probes,
    class_means: Tensor | None = None,
    processes: Processes = SINGLE,
) -> Look:
    """Run the network in eval mode over all of `data`, once; class_means is None on train, whose own means are used.

    Of several processes each runs it over a share, and all have the look of the whole.

    Raises Diverged where a feature is not finite.
    """
    layer = network.classifier
    assert isinstance(layer, nn.Linear)
    accumulator = ClassStatisticsAccumulator(num_classes, layer.in_features, device=layer.weight.device)
    kept: list[Tensor] | None = [] if len(data) * layer.in_features * 4 <= FEATURE_BUDGET_BYTES else None
    loss_sum = torch.zeros((), dtype=torch.float64, device=layer.weight.device)
    wrong = torch.zeros((), dtype=torch.int64, device=layer.weight.device)
    with probes.watching():
        for logits, features, labels in _forward(network, data, processes):
            _update(accumulator, features, labels)
            probes.update(labels)
            loss_sum += loss(logits, labels).double() * len(labels)  # type: ignore[operator]
            wrong += (logits.argmax(1) != labels).sum()
            if kept is not None:
                kept.append(features)
    if processes.size > 1:
        accumulator.all_reduce()
        probes.all_reduce()
    statistics = accumulator.compute()
    total_loss, total_wrong = processes.sum([loss_sum.item(), wrong.item()])
    return Look(
        split=split,
        epoch=epoch,
        statistics=statistics,
        class_means=statistics.class_means if class_means is None else class_means,
        classifier=LinearClassifier(layer.weight.detach(), None if layer.bias is None else layer.bias.detach()),
        ridge=ridge,
        loss=total_loss / len(data),
        error=total_wrong / len(data),
        layers=probes.compute(),
        network=network,
        data=data,
        kept_features=None if kept is None else torch.cat(kept),
        processes=processes,
    )


def _update(accumulator: ClassStatisticsAccumulator, features: Tensor, labels: Tensor) -> None:
    try:
        accumulator.update(features, labels)
    except ValueError as error:
        if not bool(features.isfinite().all()):
            raise Diverged("a feature is not finite in eval mode") from error
        raise


def _forward(network: nn.Module, data: Examples, processes: Processes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    share = None if processes.size == 1 else torch.arange(processes.rank, len(data), processes.size)
    network.eval()
    with torch.no_grad():
        for inputs, labels in data.batches(BATCH_SIZE, share):
            logits, features = network(inputs)
            yield logits, features, labels
