"""Training images changed as the steps change them, evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ncexp.config import Count
from ncexp.datasets.augmentation import Redrawn
from ncexp.measure.analyses.from_examples import Decisions
from ncexp.measure.analyses.from_statistics import LossAndError, NeuralCollapse
from ncexp.measure.evaluation import Evaluation, Needs
from ncexp.measure.evaluator import Subject, evaluate_split
from ncexp.measure.loaders import LoadedData
from ncexp.record.quantity import AUGMENTED


class Augmented:
    """``train_augmented/loss``, ``error``, ``collapse/...`` and ``decisions/...``: those of `LossAndError`,
    `NeuralCollapse` and `Decisions` on another split, of `draws` images made of each training image as
    `dataset.augment` makes those of the steps.

    Draws follow from (the run's seed, epoch, draw, place in the data) and are none of the training's. Mixtures are left
    out: a mixed image has no class. As on test, the centres of NC4 are the class means of the plain training images.
    """

    needs: Needs = "network"
    split = AUGMENTED

    def __init__(self, *, draws: Count = 1) -> None:
        self._draws = draws

    def check(self, subject: Subject) -> None:
        """Raises ValueError without an augmentation that leaves an image its class."""
        if subject.augmentation is None or not subject.augmentation.keeps_labels:
            got = "none" if subject.augmentation is None else "mixtures alone"
            raise ValueError(
                f"draws: expected images that dataset.augment changes and leaves their class, got {got}. Choose "
                "dataset.augment=[crop,flip], say, or leave evaluate_augmented and analysis=augmented out."
            )

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.split != "train":
            return
        subject, snapshot = evaluation.subject, evaluation.snapshot
        assert subject is not None
        assert subject.augmentation is not None
        train = subject.splits["train"]
        data = Redrawn(subject.augmentation, train.labels, evaluation.epoch, self._draws)
        both = replace(subject, dataset=LoadedData({"train": train, AUGMENTED: data}, subject.dataset.num_classes))
        changed = evaluate_split(both, data, {})
        splits = {"train": snapshot.splits["train"], AUGMENTED: changed}
        here = Evaluation(AUGMENTED, evaluation.epoch, replace(snapshot, splits=splits), both)
        for analysis in (LossAndError(), NeuralCollapse(), Decisions()):
            yield from analysis(here)
