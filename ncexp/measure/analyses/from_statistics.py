"""Analyses for which the statistics of a split are enough: loss, collapse, decomposition, central path, layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import Field

from ncexp.collapse import (
    ClassStatistics,
    LinearClassifier,
    SNRSpectrum,
    central_path_losses,
    decompose_mse,
    distance_to_path,
    layer_probe,
    measure_collapse,
    stable_rank,
)
from ncexp.config import Count
from ncexp.measure.analyses import of_targets
from ncexp.measure.evaluation import Evaluation, Needs
from ncexp.measure.probes import EVERY_BLOCK, Probe
from ncexp.record.quantities import OF_LAYERS

#: The last three of architecture=resnet, at any depth.
STAGES = ["backbone.3", "backbone.4", "backbone.5"]


class LossAndError:
    """``train/loss``, the training loss without decay; ``train/error``, the share of examples decided wrongly; of a
    regression `of_targets.loss_and_error`.

    The same on test; in eval mode, over all examples. Measured of every run, whatever else is chosen.

    Where only the classes that occur are measured, loss and error are still those of all outputs and all labels, and
    ``train/classes/measured`` says how many classes everything else is of, ``train/classes/share`` and
    ``test/classes/share`` how many of the labels are of these.
    """

    needs: Needs = "statistics"
    of_targets = True

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.of_targets:
            yield from of_targets.loss_and_error(evaluation)
            return
        yield "loss", evaluation.mean_loss
        yield "error", evaluation.error
        if (measured := evaluation.snapshot.measured) is not None:
            if evaluation.split == "train":
                yield "classes/measured", float(len(measured.classes))
            yield "classes/share", evaluation.snapshot.splits[evaluation.split].share


class NeuralCollapse:
    """Every field of CollapseMetrics as ``train/collapse/cdnv``, ``test/collapse/cdnv``, ...

    The classifier's own geometry, ``..._classifier``, is the same on either split and stands under ``train/`` alone.
    NC4, which needs the features, is the analysis `decisions`. Of a regression `of_targets.collapse`.
    """

    needs: Needs = "statistics"
    of_targets = True
    #: 2: with nc0_classifier; 3: the rank of the class means, and NC1 on it.
    version = 3

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.of_targets:
            yield from of_targets.collapse(evaluation)
            return
        metrics = measure_collapse(evaluation.statistics, evaluation.classifier, evaluation.spectrum)
        for name, value in asdict(metrics).items():
            if evaluation.split == "train" or not name.endswith("_classifier"):
                yield f"collapse/{name}", value


class MSEDecompositionAnalysis:
    """L and its terms as ``train/mse/loss``, ``train/mse/loss_nc1``, ..., and the same on test.

    On test the least-squares classifier is the test features' own. ``mse/identity_residual`` is the relative amount by
    which the terms fail to add up to L; above ``mse/loss_rounding`` / L they are in doubt, and summary, report and
    frame say so. ``mse/loss_nc1_data`` and ``mse/loss_nc1_decay`` are the parts of L_NC1 that the data and the weight
    decay have in it, and so for every term that has two. ``mse/ridge_weight`` and ``mse/ridge_bias`` are the λ of this
    epoch, which a loop may change. Of a regression `of_targets.decomposition`.
    """

    needs: Needs = "statistics"
    of_targets = True
    #: 2: the data and decay parts; 3: λ of the epoch, loss_rounding; at λ = 0 each unit measured in its own rounding.
    version = 3

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.of_targets:
            yield from of_targets.decomposition(evaluation)
            return
        ridge = (evaluation.ridge.weight, evaluation.ridge.bias)
        terms = decompose_mse(evaluation.statistics, evaluation.classifier, ridge)
        for name, value in asdict(terms).items():
            yield f"mse/{name}", value
        yield "mse/identity_residual", terms.residual
        if evaluation.split == "train":  # the same on test
            yield "mse/ridge_weight", evaluation.ridge.weight
            yield "mse/ridge_bias", evaluation.ridge.bias


OfLayers = Literal["average", "class_token", "token_mean", "spatial_mean", "flatten", "last_token", "every_token"]


class LayerwiseCollapse:
    """OF_LAYERS, what CollapseMetrics has of a layer without a classifier, of each submodule:
    ``train/layers/backbone.3/nc1_ratio``, on test likewise. Beside them ``stable_rank_means``, and on train
    ``probe_explained``, how much of the labels the layer explains linearly (`LayerProbe`). Errors are in `depth`.

    modules: names as in network.named_modules(), such as backbone.3, and patterns (``model.blocks.*``; a star stays
    within one part of a name); None: STAGES. every: ``block`` in place of names.

    features: what is made of an output. ``average``: the mean over positions, of a convolution's (n, channels, height,
    width) as of tokens (n, tokens, width). Which of the two it is, is read from what the module is
    (`ncexp.measure.layouts`); where that does not tell, the run is refused before its first step. Others are chosen:
    ``class_token`` (the first), ``last_token``, ``token_mean``, ``spatial_mean``, ``flatten``. With labels of tokens
    each is an example: ``every_token``, and no other.
    """

    needs: Needs = "statistics"
    #: 2: ranks at the precision of the features; 3: tokens are averaged over tokens, not over their width; stable rank,
    #: and what the probe explains.
    version = 3

    def __init__(
        self,
        *,
        modules: Annotated[list[str], Field(min_length=1)] | None = None,
        every: Literal["block"] | None = None,
        features: OfLayers = "average",
    ) -> None:
        if modules and every:
            raise ValueError(f"modules: expected names or every=block, got every=block and {modules}. Leave one out.")
        asked = [EVERY_BLOCK] if every else modules or STAGES
        probes = [Probe(module, features) for module in asked]
        self.probes: Mapping[str, Probe] = {probe.name: probe for probe in probes}

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        for module, statistics in evaluation.layers(self.probes).items():
            metrics = measure_collapse(statistics, LinearClassifier(statistics.class_means))
            for row in OF_LAYERS:
                yield row.name.replace("<module>", module), getattr(metrics, row.quantity)
            means = statistics.class_means
            yield f"layers/{module}/stable_rank_means", stable_rank(means - means.mean(0))
            if evaluation.split == "train":
                yield f"layers/{module}/probe_explained", layer_probe(statistics).explained


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
    last among them, each under its own j. Of a regression `of_targets.path`.
    """

    needs: Needs = "statistics"
    of_targets = True
    #: 2: at λ = 0 each unit measured in its own rounding.
    version = 2

    def __init__(self, *, modes: Count = 9) -> None:
        self.modes = modes

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.of_targets:
            yield from of_targets.path(evaluation)
            return
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
