"""The central path from random features: the renormalized gradient flow, and the closed form from the same start."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ncexp.collapse import (
    CentralPath,
    LinearClassifier,
    central_path_losses,
    class_statistics,
    nearest_class_center_mismatch,
    renormalized_gradient_flow,
    snr_singular_values,
)
from ncexp.collapse.gradient_flow import States, with_optimum
from ncexp.measure import Analysis, Ridge, Snapshot, run_analysis
from ncexp.measure.analyses import CentralPathAnalysis, LossAndError, MSEDecompositionAnalysis, NeuralCollapse
from ncexp.measure.snapshot import SplitSnapshot
from ncexp.record import Record

#: The first time after 0, in units of the time N C² in which a small mode grows e-fold.
FIRST = 0.01
#: n P: half a GiB in float64, of which the flow holds several.
MOST_NUMBERS = 2**26

NumClasses = Annotated[int, Field(ge=2, le=2**10)]
NumFeatures = Annotated[int, Field(ge=1, le=2**12)]
ExamplesPerClass = Annotated[int, Field(ge=1, le=2**16)]
LastTime = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NumTimes = Annotated[int, Field(ge=3, le=10_000)]
#: Features, labels, times, and the generator that drew the features → what the flow makes of them.
Flow = Callable[[Tensor, Tensor, Tensor, torch.Generator], States]


def random_features(
    seed: int,
    *,
    num_classes: NumClasses = 10,
    num_features: NumFeatures = 16,
    examples_per_class: ExamplesPerClass = 20,
    last_time: LastTime = 1e8,
    num_times: NumTimes = 60,
) -> Iterator[Record]:
    """Features from a standard normal follow the renormalized flow; records and ValueErrors as of `records_along`."""

    def flow(features: Tensor, labels: Tensor, times: Tensor, _: torch.Generator) -> States:
        snapshots = renormalized_gradient_flow(features, labels, num_classes, times).snapshots
        return with_optimum(snapshots, labels, num_classes)

    return records_along(flow, seed, (num_classes, num_features, examples_per_class), last_time, num_times)


def records_along(
    flow: Flow, seed: int, sizes: tuple[int, int, int], last_time: float, num_times: int, longest: float = math.inf
) -> Iterator[Record]:
    """Features from a standard normal, (C, P, N) = sizes, follow a flow; one record at t = 0 and at each of times on a
    log scale.

    A record's "epoch" is the number of its time; ``train/path/time`` is t, ``train/theory/snr_1`` ... the closed form's
    ω_j(t), ``train/theory/loss_ls``, ``loss_nc1``, ``loss_nc23`` its losses, and ``train/theory/residual`` the largest
    of |log ω_j − log ω_j^theory|. All else is measured on the simulated features as it is in a training, with the
    flow's classifier.

    longest: the latest last_time, in units of N C², of a flow without renormalization.

    Raises ValueError where P > n − C leaves Σ_W singular, where the features are more than MOST_NUMBERS, or where
    last_time comes before the second time or after the latest.
    """
    num_classes, num_features, examples_per_class = sizes
    unit = examples_per_class * num_classes**2
    first = FIRST * unit
    num_examples = num_classes * examples_per_class
    if num_features > num_examples - num_classes:
        raise ValueError(
            f"simulation.num_features: expected at most n - C = {num_examples - num_classes}, got {num_features}. "
            "More would leave directions without variation within classes."
        )
    if num_examples * num_features > MOST_NUMBERS:
        raise ValueError(
            f"simulation.examples_per_class: expected at most {MOST_NUMBERS} numbers in all features, got "
            f"{num_examples * num_features}. Lower it, simulation.num_features or simulation.num_classes."
        )
    if last_time <= first:
        raise ValueError(f"simulation.last_time: expected above {first:g}, the first time, got {last_time:g}.")
    if last_time > longest * unit:
        raise ValueError(
            f"simulation.last_time: expected at most {longest} N C² = {longest * unit}, got {last_time:g}. Lower it: "
            "without renormalization the noise within classes falls exponentially, to rounding."
        )
    later = torch.logspace(math.log10(first), math.log10(last_time), num_times - 1, dtype=torch.float64)
    times = torch.cat([torch.zeros(1, dtype=torch.float64), later])
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_examples, num_features, generator=generator, dtype=torch.float64)
    labels = torch.arange(num_classes).repeat_interleave(examples_per_class)
    return _records(lambda: flow(features, labels, times, generator), labels, times)


def _records(flow: Callable[[], States], labels: Tensor, times: Tensor) -> Iterator[Record]:
    states = flow()  # here, in a generator: what is refused is so before anything is computed
    num_classes = states[0][1].num_classes
    spectra = torch.stack([snr_singular_values(class_statistics(h, labels, num_classes)) for h, _ in states])
    theory = CentralPath(spectra[0], num_classes, len(labels) // num_classes).singular_values(times)
    for row, (simulated, layer) in enumerate(states):
        record: Record = {"epoch": row, "train/path/time": float(times[row])}
        record |= _measured(row, simulated, layer, labels)
        record |= {f"train/theory/snr_{j}": float(value) for j, value in enumerate(theory[row], start=1)}
        losses = zip(("loss_ls", "loss_nc1", "loss_nc23"), central_path_losses(theory[row], num_classes), strict=True)
        record |= {f"train/theory/{name}": float(loss) for name, loss in losses}
        record["train/theory/residual"] = float((spectra[row] / theory[row]).log().abs().max())
        yield record


def _measured(row: int, features: Tensor, classifier: LinearClassifier, labels: Tensor) -> Record:
    """What the analyses find on features with a classifier, and NC4."""
    num_classes = classifier.num_classes
    statistics = class_statistics(features, labels, num_classes)
    logits = classifier(features)
    targets = nn.functional.one_hot(labels, num_classes).to(logits)
    loss = float((logits - targets).square().sum() / (2 * len(labels)))
    error = float((logits.argmax(1) != labels).double().mean())
    train = SplitSnapshot(statistics, loss, error, layers={})
    snapshot = Snapshot(row, {"train": train}, classifier, Ridge(0.0, 0.0, "λ = 0: the central path"))
    analyses: list[Analysis] = [LossAndError(), NeuralCollapse(), MSEDecompositionAnalysis()]
    analyses.append(CentralPathAnalysis(modes=num_classes))
    record: Record = {}
    for analysis in analyses:
        record |= run_analysis(analysis, snapshot, None)
    mismatch = nearest_class_center_mismatch(features, classifier, statistics.class_means)
    return record | {"train/collapse/nearest_class_center_mismatch": mismatch}
