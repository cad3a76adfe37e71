"""NC0 to NC3 and related measures, from statistics alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from ncexp.collapse import measure_collapse
from ncexp.measure.evaluation import Evaluation, Needs


class NeuralCollapse:
    """Every field of CollapseMetrics as ``train/collapse/cdnv``, ``test/collapse/cdnv``, ...

    The classifier's own geometry, ``..._classifier``, is the same on either split and stands under ``train/`` alone.
    NC4, which needs the features, is the analysis `decisions`.
    """

    needs: Needs = "statistics"
    #: 2: with nc0_classifier; 3: the rank of the class means, and NC1 on it.
    version = 3

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        metrics = measure_collapse(evaluation.statistics, evaluation.classifier, evaluation.spectrum)
        for name, value in asdict(metrics).items():
            if evaluation.split == "train" or not name.endswith("_classifier"):
                yield f"collapse/{name}", value
