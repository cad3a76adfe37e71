"""Spectra, ranks and norms of the last layer; decisions of every layer, and how it lies to the weight that reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from ncexp.collapse import (
    absolute_norms,
    effective_depth,
    effective_rank_of,
    least_squares_classifier,
    next_weight_alignment,
    spectra,
    stable_rank,
)
from ncexp.config import Count
from ncexp.measure.analyses.from_examples import nearest_center
from ncexp.measure.analyses.from_statistics import LayerwiseCollapse, recorded_modes
from ncexp.measure.evaluation import Evaluation, Needs
from ncexp.measure.next_weights import next_weights

#: With which is found out what reads a layer.
EXAMPLES = 8


class SpectraAndNorms:
    """``spectra/weight_<j>``, ``means_<j>``, ``within_<j>``, ``between_<j>``: the values of `Spectra` with their j, the
    largest first; ``spectra/stable_rank_...`` and ``effective_rank_weight`` from the same values; ``norms/...``: every
    field of `AbsoluteNorms`. What is of the classifier alone stands under ``train/`` alone.

    modes: how many values of one spectrum are recorded at most: all where there are no more, else evenly spaced by j,
    the first and the last among them, each under its own j.
    """

    needs: Needs = "statistics"

    def __init__(self, *, modes: Count = 64) -> None:
        self.modes = modes

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        found = spectra(evaluation.statistics, evaluation.classifier)
        values = {"means": found.class_means, "within": found.within, "between": found.between}
        norms = asdict(absolute_norms(evaluation.statistics, evaluation.classifier))
        if evaluation.split == "train":
            values["weight"] = found.weight
            yield "spectra/stable_rank_weight", found.stable_rank_weight
            yield "spectra/effective_rank_weight", found.effective_rank_weight
        else:
            del norms["weight"], norms["bias"]
        yield "spectra/stable_rank_means", found.stable_rank_means
        yield "spectra/stable_rank_within", found.stable_rank_within
        for name, spectrum in values.items():
            for mode in recorded_modes(len(spectrum), self.modes):
                yield f"spectra/{name}_{mode}", float(spectrum[mode - 1])
        for name, norm in norms.items():
            yield f"norms/{name}", norm


class Depth(LayerwiseCollapse):
    """What class statistics of a layer do not give: it runs the network once more. The options are those of `layers`.

    Of each submodule ``layers/<module>/nearest_class_center_error``: the share of examples that the nearest TRAIN class
    mean of its features decides wrongly; ``probe_error``: the same of the least-squares layer of its TRAIN features, at
    λ = 0, solved for and not trained. ``depth/effective_depth``: `effective_depth` of the former, the layers numbered
    from 1 in the order in which they end in a forward pass, whatever the order of `modules`.

    ``next_weight_overlap``, ``next_weight_angle``: `next_weight_alignment` with the weight that reads the layer's
    features, where one does (`next_weights`), else undefined; ``next_weight_stable_rank`` and
    ``next_weight_effective_rank`` under ``train/``.
    """

    needs: Needs = "network"
    version = 1
    of_tokens = True

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        inputs, labels = next(evaluation.data.batches(EXAMPLES))
        weights = next_weights(evaluation.network, self.probes, inputs, len(labels))
        layers, wrong = evaluation.layers(self.probes), self._wrong(evaluation)
        yield "depth/effective_depth", float(effective_depth([wrong[module][0] for module in weights]))
        for module, weight in weights.items():
            layer = f"layers/{module}"
            yield f"{layer}/nearest_class_center_error", wrong[module][0]
            yield f"{layer}/probe_error", wrong[module][1]
            angles = None if weight is None else next_weight_alignment(layers[module], weight)
            yield f"{layer}/next_weight_overlap", math.nan if angles is None else angles.overlap
            yield f"{layer}/next_weight_angle", math.nan if angles is None else angles.largest_angle
            if evaluation.split == "train":
                yield f"{layer}/next_weight_stable_rank", math.nan if weight is None else stable_rank(weight)
                yield f"{layer}/next_weight_effective_rank", math.nan if weight is None else effective_rank_of(weight)

    def _wrong(self, evaluation: Evaluation) -> dict[str, list[float]]:
        """Submodule → the shares of examples that its nearest class mean and its least-squares layer decide wrongly."""
        deciders = {}
        for module, train in Evaluation("train", evaluation.epoch, evaluation.snapshot).layers(self.probes).items():
            means, optimum = train.class_means.to(evaluation.device), least_squares_classifier(train, 0.0)
            deciders[module] = means.mean(0), nearest_center(means), optimum.to(evaluation.device)
        counts, examples = {module: [0, 0] for module in deciders}, 0
        for layers, labels in evaluation.probed(self.probes):
            examples += len(labels)
            for module, features in layers.items():
                middle, nearest, optimum = deciders[module]
                for place, logits in enumerate((nearest(features - middle), optimum(features))):
                    counts[module][place] += int((logits.argmax(1) != labels).sum())
        *totals, number = evaluation.total(*(float(one) for pair in counts.values() for one in pair), float(examples))
        return {module: [one / number for one in totals[2 * at : 2 * at + 2]] for at, module in enumerate(counts)}
