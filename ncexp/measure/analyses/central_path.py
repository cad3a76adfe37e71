"""The SNR spectrum of the train features, what it predicts, and how far the last layer is from the central path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from ncexp.collapse import (
    ClassStatistics,
    LinearClassifier,
    SNRSpectrum,
    central_path_losses,
    decompose_mse,
    distance_to_path,
)
from ncexp.config import Count
from ncexp.measure.evaluation import Evaluation, Needs


class CentralPathAnalysis:
    """HPD22 section 3 in numbers, on train features: ``train/path/...``.

    ``path/snr_1``, ``path/snr_2``, ...: singular values ω_j of the SNR matrix, the largest first; ``path/snr_ratio``
    the first over the last; ``path/rank``: the rank of Σ_W that they rest on; ``path/condition_number``: of Σ_W there;
    ``path/snr_rounding``: the relative error that rounding may leave in them (`SNRSpectrum.rounding`).
    Where Σ_W cannot tell how far class means are apart they are undefined (nan): rank 0 means no variation within
    classes, any other that class means differ in a direction without such variation (see `snr_spectrum`).

    ``path/loss_ls``, ``loss_nc1``, ``loss_nc23``: the loss of the best last layer at λ = 0 and its two parts, from the
    spectrum alone; ``path/identity_residual``: the largest relative difference to the same three measured on the
    features: rounding, or a defect. All four are undefined without a spectrum and with classes of unequal size.

    ``path/perp_share``, ``classifier_distance``, ``prediction_angle`` (degrees): see `PathDistance`. The least-squares
    layer has the λ that the run trains with, as in ``mse/``.

    modes: how many ω_j are recorded, at most: all where there are no more, else evenly spaced by j, the first and the
    last among them, each under its own j.
    """

    needs: Needs = "statistics"
    #: 2: at λ = 0 each unit measured in its own rounding.
    version = 2

    def __init__(self, *, modes: Count = 9) -> None:
        self.modes = modes

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.split != "train":
            return
        spectrum = evaluation.spectrum
        values = spectrum.singular_values
        for mode in recorded_modes(len(values), self.modes):
            yield f"path/snr_{mode}", float(values[mode - 1])
        yield "path/snr_ratio", float(values[0] / values[-1])
        yield "path/rank", float(spectrum.rank)
        yield "path/condition_number", spectrum.condition_number
        yield "path/snr_rounding", spectrum.rounding
        for name, value in _predicted_losses(evaluation.statistics, evaluation.classifier, spectrum).items():
            yield f"path/{name}", value
        ridge = (evaluation.ridge.weight, evaluation.ridge.bias)
        distances = distance_to_path(evaluation.statistics, evaluation.classifier, ridge)
        for name, value in asdict(distances).items():
            yield f"path/{name}", value


def recorded_modes(count: int, most: int) -> list[int]:
    """Which j of 1..count are recorded: all of at most `most`, else `most` of them, evenly spaced, both ends included.

    >>> recorded_modes(9, 9)
    [1, 2, 3, 4, 5, 6, 7, 8, 9]
    >>> recorded_modes(99, 5)
    [1, 26, 50, 75, 99]
    """
    if count <= most:
        return list(range(1, count + 1))
    if most == 1:
        return [1]
    return [1 + (place * (count - 1) + (most - 1) // 2) // (most - 1) for place in range(most)]


def _predicted_losses(
    statistics: ClassStatistics, classifier: LinearClassifier, spectrum: SNRSpectrum
) -> dict[str, float]:
    """L_LS, L_NC1, L_NC2/3 at λ = 0 in closed form, and how far they are from the measured ones."""
    names = ("loss_ls", "loss_nc1", "loss_nc23")
    if not spectrum.defined or bool((statistics.counts != statistics.counts[0]).any()):
        return dict.fromkeys((*names, "identity_residual"), math.nan)
    losses = central_path_losses(spectrum.singular_values, statistics.num_classes)
    predicted = {name: float(loss) for name, loss in zip(names, losses, strict=True)}
    # The closed form is that of a layer with a bias; which layer is measured beside its optimum does not matter here.
    biased = LinearClassifier(classifier.weight, classifier.weight.new_zeros(classifier.num_classes))
    measured = asdict(decompose_mse(statistics, biased, 0.0))
    gaps = [abs(value - measured[name]) / measured[name] for name, value in predicted.items()]
    return {**predicted, "identity_residual": max(gaps)}
