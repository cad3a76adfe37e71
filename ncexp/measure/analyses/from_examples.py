"""Analyses of single examples: how network, nearest class mean and W_LS decide, how surely, and how robust it is."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ncexp.collapse import (
    CalibrationAccumulator,
    LinearClassifier,
    least_squares_classifier,
)
from ncexp.collapse.calibration import NUM_BINS
from ncexp.collapse.nearest_class_center import Decider
from ncexp.config import Count, Seed
from ncexp.measure.analyses import of_targets
from ncexp.measure.deepfool import robustness
from ncexp.measure.evaluation import Evaluation, Needs

#: Examples whose float64 features and logits are held at once.
BLOCK = 8192


class Decisions:
    """``collapse/nearest_class_center_mismatch``: NC4 (PHD20), the share of examples that the network and the nearest
    TRAIN class mean decide differently; ``path/decision_mismatch``: the share that the last layer and the least-squares
    one of the TRAIN features (with the run's λ, as in ``train/mse/``) decide differently.

    ``decisions/nearest_class_center_error`` and ``decisions/least_squares_error``: the shares of examples that these
    two classifiers decide wrongly, beside ``error``, the network's own. Of a regression `of_targets.of_examples`.
    """

    needs: Needs = "features"
    of_targets = True

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.of_targets:
            yield from of_targets.of_examples(evaluation)
            return
        device = evaluation.device
        ridge = (evaluation.ridge.weight, evaluation.ridge.bias)
        classifier = evaluation.classifier.to(device)
        statistics = evaluation.snapshot.splits["train"].of_classes
        optimum = least_squares_classifier(statistics, ridge, bias=classifier.bias is not None).to(device)
        decide = Decider([classifier, optimum], evaluation.class_means.to(device))
        counts = torch.zeros(5, dtype=torch.int64, device=device)
        for features, labels in evaluation.features():
            network, by_optimum, nearest = decide(features).unbind(1)
            wrong = [network != nearest, network != by_optimum, nearest != labels, by_optimum != labels]
            counts += torch.stack([*(one.sum() for one in wrong), torch.tensor(len(labels)).to(device)])
        *counted, total = evaluation.total(*map(float, counts.tolist()))
        yield "collapse/nearest_class_center_mismatch", counted[0] / total
        yield "path/decision_mismatch", counted[1] / total
        yield "decisions/nearest_class_center_error", counted[2] / total
        yield "decisions/least_squares_error", counted[3] / total


def nearest_center(means: Tensor) -> LinearClassifier:
    """argmin_c ‖h − μ_c‖ as argmax_c ⟨h − a, μ_c − a⟩ − ½‖μ_c − a‖², a the mean of class means: nothing cancels."""
    centered = means - means.mean(0)
    return LinearClassifier(centered, -centered.square().sum(1) / 2)


class Calibration:
    """``calibration/...`` of the softmax of W h + b, whatever the loss: `negative_log_likelihood`, `brier_score`,
    `expected_calibration_error` and `confidence` of CalibrationMetrics, whose accuracy is 1 − ``error``.

    Where only the classes that occur are measured, the softmax is still that of all outputs; the examples are theirs.

    ``calibration/share_<j>``, ``accuracy_<j>``, ``confidence_<j>``: of bin j, of the confidences in ((j − 1)/M, j/M].

    bins: M, of equal width.
    """

    needs: Needs = "features"

    def __init__(self, *, bins: Count = NUM_BINS) -> None:
        self._num_bins = bins

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        classifier, measured = evaluation.whole_classifier.to(evaluation.device), evaluation.snapshot.measured
        accumulator = CalibrationAccumulator(self._num_bins, device=evaluation.device)
        for features, labels in evaluation.features():
            for block, truth in zip(features.split(BLOCK), labels.split(BLOCK), strict=True):
                accumulator.update(classifier(block), truth if measured is None else measured.classes.to(truth)[truth])
        accumulator.reduce(evaluation.total)
        found = accumulator.compute()
        for name in ("negative_log_likelihood", "expected_calibration_error", "brier_score", "confidence"):
            yield f"calibration/{name}", getattr(found, name)
        shares = found.bins.counts.double() / found.bins.counts.sum()
        parts = {"share": shares, "accuracy": found.bins.accuracies, "confidence": found.bins.confidences}
        for name, values in parts.items():
            yield from ((f"calibration/{name}_{j}", value) for j, value in enumerate(values.tolist(), start=1))


class FeatureLength:
    """``norms/feature_length``: Ave ‖h‖, float64; unlike ``norms/features``, the root of the mean square, it is no
    function of the class statistics.
    """

    needs: Needs = "features"
    of_targets = True

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        lengths, examples = torch.zeros((), dtype=torch.float64, device=evaluation.device), 0
        for features, _ in evaluation.features():
            for block in features.split(BLOCK):
                lengths += block.double().norm(dim=1).sum()
            examples += len(features)
        total, number = evaluation.total(lengths.item(), float(examples))
        yield "norms/feature_length", total / number


class RobustnessAnalysis:
    """``test/robustness/ratio``: Ave ‖r(x)‖/‖x‖ with DeepFool's r (HPD22); ``test/robustness/not_crossed``: a count.

    num_examples: that many test examples, drawn once by `sample_seed` (all, where there are fewer).
    """

    needs: Needs = "network"

    def __init__(self, *, num_examples: Count = 100, sample_seed: Seed = 0) -> None:
        self._num_examples, self._seed = num_examples, sample_seed

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.split != "test":
            return
        data = evaluation.data
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(self._seed))
        chosen = order[: self._num_examples].to(data.labels.device)
        inputs, _ = next(data.batches(len(chosen), chosen))
        ratio, not_crossed = robustness(evaluation.network, inputs)
        yield "robustness/ratio", ratio
        yield "robustness/not_crossed", float(not_crossed)
