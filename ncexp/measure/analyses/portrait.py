"""Single examples for pictures: their features stay in the epoch's snapshot."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.functional import one_hot

from ncexp.config import Count
from ncexp.measure.analyses.from_examples import BLOCK
from ncexp.measure.evaluation import Evaluation, Needs


class Portrait:
    """Keeps the features of the first `examples` of every class of each split, in the snapshot; it records no number.

    The same examples at every epoch, so that an animation can follow them. On several processes they are of the first
    one's share.
    """

    needs: Needs = "features"
    keeps_examples = True

    def __init__(self, *, examples: Count = 20) -> None:
        self._most = examples

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        classes = evaluation.statistics.num_classes
        seen = torch.zeros(classes, dtype=torch.int64, device=evaluation.device)
        kept = []
        for batch in evaluation.features():
            for features, labels in zip(*(part.split(BLOCK) for part in batch), strict=True):
                members = one_hot(labels, classes)
                places = seen[labels] + members.cumsum(0).gather(1, labels[:, None])[:, 0]
                chosen = places <= self._most
                kept.append((features[chosen].cpu(), labels[chosen].cpu()))
                seen += members.sum(0)
            if bool((seen >= self._most).all()):
                break
        features, labels = (torch.cat(parts) for parts in zip(*kept, strict=True))
        evaluation.snapshot.splits[evaluation.split].examples.update(features=features, labels=labels)
        yield from ()
