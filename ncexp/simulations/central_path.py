"""The central path from random features: the renormalized gradient flow, and the closed form from the same start."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ncexp.analyses import CentralPathAnalysis, Look, MSEDecompositionAnalysis, NeuralCollapse
from ncexp.collapse import (
    CentralPath,
    central_path_losses,
    class_statistics,
    least_squares_classifier,
    renormalized_gradient_flow,
)
from ncexp.config import Count
from ncexp.datasets import Split
from ncexp.journal import Record
from ncexp.ridge import Ridge

#: The first time after 0, in units of the time N C² in which a small mode grows e-fold.
FIRST = 0.01


def random_features(
    seed: int,
    *,
    num_classes: Annotated[int, Field(ge=2)] = 10,
    num_features: Count = 16,
    examples_per_class: Count = 20,
    last_time: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e8,
    num_times: Annotated[int, Field(ge=3)] = 60,
) -> Iterator[Record]:
    """Features from a standard normal, let go along the flow; one record at t = 0 and at each of times on a log scale.

    A record's "epoch" is the number of its time; ``path/time`` is t, ``theory/snr_1`` ... the closed form's ω_j(t),
    ``theory/loss_ls``, ``loss_nc1``, ``loss_nc23`` its losses, and ``theory/residual`` the largest of
    |log ω_j − log ω_j^theory|. All else is measured on the simulated features as it is
    in a training, with the classifier W_LS at λ = 0.

    Raises ValueError where P > n − C leaves Σ_W singular, or last_time comes before the second time.
    """
    num_examples = num_classes * examples_per_class
    first = FIRST * examples_per_class * num_classes**2
    if num_features > num_examples - num_classes:
        raise ValueError(
            f"simulation.num_features: expected at most n - C = {num_examples - num_classes}, got {num_features}. "
            "More would leave directions without variation within classes."
        )
    if last_time <= first:
        raise ValueError(f"simulation.last_time: expected above {first:g}, the first time, got {last_time:g}.")
    later = torch.logspace(math.log10(first), math.log10(last_time), num_times - 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_examples, num_features, generator=generator, dtype=torch.float64)
    labels = torch.arange(num_classes).repeat_interleave(examples_per_class)
    return _records(features, labels, num_classes, torch.cat([torch.zeros(1, dtype=torch.float64), later]))


def _records(features: Tensor, labels: Tensor, num_classes: int, times: Tensor) -> Iterator[Record]:
    flow = renormalized_gradient_flow(features, labels, num_classes, times)
    path = CentralPath(flow.singular_values[0], num_classes, len(labels) // num_classes)
    theory = path.singular_values(times)
    analyses: list[Callable[[Look], Iterator[tuple[str, float]]]] = [
        NeuralCollapse(),
        MSEDecompositionAnalysis(),
        CentralPathAnalysis(modes=num_classes),
    ]
    for row, snapshot in enumerate(flow.snapshots):
        look = _look(snapshot, labels, num_classes)
        record: Record = {"epoch": row, "path/time": float(times[row]), "train/error": look.error}
        for analysis in analyses:
            record.update(analysis(look))
        record |= {f"theory/snr_{j}": float(value) for j, value in enumerate(theory[row], start=1)}
        losses = zip(("loss_ls", "loss_nc1", "loss_nc23"), central_path_losses(theory[row], num_classes), strict=True)
        record |= {f"theory/{name}": float(loss) for name, loss in losses}
        record["theory/residual"] = float((flow.singular_values[row] / theory[row]).log().abs().max())
        yield record


def _look(features: Tensor, labels: Tensor, num_classes: int) -> Look:
    """Features with their least-squares classifier, as an analysis wants to see them."""
    statistics = class_statistics(features, labels, num_classes)
    classifier = least_squares_classifier(statistics, 0.0)
    logits = classifier(features)
    targets = nn.functional.one_hot(labels, num_classes).to(logits)
    return Look(
        split="train",
        epoch=0,
        statistics=statistics,
        class_means=statistics.class_means,
        classifier=classifier,
        ridge=Ridge(0.0, 0.0, "λ = 0: the central path"),
        loss=float((logits - targets).square().sum() / (2 * len(labels))),
        error=float((logits.argmax(1) != labels).double().mean()),
        layers={},
        network=nn.Identity(),
        data=Split(features, labels),
        kept_features=features,
    )
