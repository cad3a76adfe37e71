"""NC1 to NC4 and kin of one look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from ncexp.analyses.look import Look
from ncexp.collapse import measure_collapse, nearest_class_center_mismatch


class NeuralCollapse:
    """Every field of CollapseMetrics as ``train/nc1_trace``, and NC4 as ``train/nearest_class_center_mismatch``.

    The classifier's own geometry, ``..._classifier``, is the same on either split and stands under ``train/`` alone.
    """

    def __call__(self, look: Look) -> Iterator[tuple[str, float]]:
        for name, value in asdict(measure_collapse(look.statistics, look.classifier, look.spectrum)).items():
            if look.split == "train" or not name.endswith("_classifier"):
                yield f"{look.split}/{name}", value
        yield f"{look.split}/nearest_class_center_mismatch", _mismatch(look)


def _mismatch(look: Look) -> float:
    examples, mismatches = 0, 0.0
    for features in look.features():
        mismatches += nearest_class_center_mismatch(features, look.classifier, look.class_means) * len(features)
        examples += len(features)
    mismatches, total = look.total(mismatches, examples)
    return mismatches / total
