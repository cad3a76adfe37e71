"""What takes the place of the simplex: classes of unequal size, and more classes than features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from ncexp.collapse import (
    ClassStatistics,
    DeepMinimum,
    free_bias_geometry,
    gram_distance,
    one_vs_rest_margin,
    seli_geometry,
)
from ncexp.config import ADDED, Count
from ncexp.measure.analyses.from_statistics import recorded_modes
from ncexp.measure.evaluation import Evaluation, Needs
from ncexp.measure.evaluator import Subject
from ncexp.measure.free_minimum import distances, minimum_of

#: Classes beyond which a margin, C problems of C variables, would take longer than an epoch.
MOST_CLASSES = 200


class Geometry:
    """Distances to the geometry that the sizes of the TRAIN classes give (`ncexp.collapse.geometries`), and what
    becomes of small classes, as ``train/geometry/...`` and ``test/geometry/...``; of the classifier under ``train/``.

    ``seli_means``, ``seli_classifier``: ‖G/‖G‖ − G*/‖G*‖‖, G the Gram matrix of the class means about their mean, or
    W Wᵀ, and G* SELI's; ``free_bias_means``, ``free_bias_classifier``: the same with the class means about their mean
    weighted by the train classes' sizes, and G* that of a bias without decay. Undefined where C − 1 > P: no room.

    ``nc1_<c>``: v_c / tr Σ_B, the variance of class c; the mean over the examples is ``collapse/nc1_ratio``. c counts
    from 1 in the order of the train classes' sizes, the largest first, of equals the lower label.

    ``minority_angle_means``, ``minority_angle_classifier``: degrees, the mean over pairs of minority classes, those
    with fewer than n/C train examples, of the angle between their m_c, or w_c: 0 at minority collapse (Fang et al.
    2021). ``minority_angle_seli``: of SELI's classifier, to compare with. Undefined with fewer than two such classes.

    ``margin_means``, ``margin_classifier``: `one_vs_rest_margin`, of the m_c and of the w_c. Undefined with more than
    MOST_CLASSES classes.

    classes: how many nc1_<c> are recorded at most: all where there are no more, else evenly spaced, with both ends.

    minimum: of free features, also ``minimum_excess``, ``minimum_outputs``, ``minimum_features``, ``minimum_weights``
    under ``train/``: the distances to the global minimum in closed form (`ncexp.measure.free_minimum`); of targets
    these alone. Undefined where no theorem gives it; facts.json then says why (`minimum`).
    """

    def __init__(self, *, classes: Count = 10, minimum: Annotated[bool, ADDED] = False) -> None:
        self.classes = classes
        self._to_minimum = self.of_targets = minimum
        self.needs: Needs = "network" if minimum else "statistics"
        self._least: DeepMinimum | str = ""
        #: What facts.json says of it.
        self.facts: dict[str, str] = {}

    def check(self, subject: Subject) -> None:
        """Find the minimum. Raises ValueError for a network whose features are not free."""
        if self._to_minimum:
            self._least = minimum_of(subject)
            known = isinstance(self._least, DeepMinimum)
            self.facts = {"minimum": "in closed form" if known else f"undefined: {self._least}"}

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if not evaluation.of_targets:
            yield from self._of_classes(evaluation)
        if self._to_minimum and evaluation.split == "train":
            assert evaluation.subject is not None
            for name, value in distances(evaluation.subject, self._least, evaluation.mean_loss):
                yield f"geometry/{name}", value

    def _of_classes(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        statistics, weight = evaluation.statistics, evaluation.classifier.weight
        counts = evaluation.snapshot.splits["train"].of_classes.counts
        means = statistics.class_means - statistics.class_means.mean(0)
        # About their mean with the frequencies of the train classes, whichever the split.
        about_examples = statistics.class_means - (counts.to(torch.float64) / counts.sum()) @ statistics.class_means
        yield from _of_sizes(statistics, counts, self.classes)
        yield from _distances("means", means, about_examples, counts)
        yield from _of_directions("means", means, counts)
        if evaluation.split == "train":
            yield from _distances("classifier", weight, weight, counts)
            yield from _of_directions("classifier", weight, counts)
            squares, vectors = torch.linalg.eigh(seli_geometry(counts).classifier)  # of rows with this Gram matrix
            yield "geometry/minority_angle_seli", _minority_angle(vectors * squares.clamp(min=0).sqrt(), counts)


def _of_sizes(statistics: ClassStatistics, counts: Tensor, most: int) -> Iterator[tuple[str, float]]:
    largest_first = torch.argsort(counts, descending=True, stable=True)
    between = statistics.frequencies @ statistics.centered_class_means.square().sum(1)
    ratios = statistics.within_class_variances[largest_first] / between
    for place in recorded_modes(len(counts), most):
        value = float(ratios[place - 1])
        yield f"geometry/nc1_{place}", value if math.isfinite(value) else math.nan


def _distances(name: str, about_means: Tensor, about_examples: Tensor, counts: Tensor) -> Iterator[tuple[str, float]]:
    fits = len(counts) - 1 <= about_means.shape[1]
    kinds = {"seli": (about_means, seli_geometry), "free_bias": (about_examples, free_bias_geometry)}
    for kind, (rows, geometry) in kinds.items():
        distance = gram_distance(rows @ rows.T, getattr(geometry(counts), name)) if fits else math.nan
        yield f"geometry/{kind}_{name}", distance


def _of_directions(name: str, rows: Tensor, counts: Tensor) -> Iterator[tuple[str, float]]:
    yield f"geometry/minority_angle_{name}", _minority_angle(rows, counts)
    yield f"geometry/margin_{name}", one_vs_rest_margin(rows) if len(rows) <= MOST_CLASSES else math.nan


def _minority_angle(rows: Tensor, counts: Tensor) -> float:
    """Degrees; nan with fewer than two minority classes, or where a row is 0."""
    few = rows[counts * len(counts) < counts.sum()]
    lengths = torch.linalg.vector_norm(few, dim=1, keepdim=True)
    if len(few) < 2 or bool((lengths == 0).any()):
        return math.nan
    first, second = torch.triu_indices(len(few), len(few), 1)
    one, other = (few / lengths)[first], (few / lengths)[second]
    # 2 atan2(‖u − v‖, ‖u + v‖): arccos would lose half the digits of a small angle.
    apart, along = (torch.linalg.vector_norm(pair, dim=1) for pair in (one - other, one + other))
    return math.degrees(float(2 * torch.atan2(apart, along).mean()))
