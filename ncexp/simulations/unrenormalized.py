"""Random features in continuous time without renormalization, regime=on_path and regime=plain of a training, beside the
closed form of the renormalized flow from the same start.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ncexp.collapse import LinearClassifier
from ncexp.collapse.gradient_flow import States, on_path_gradient_flow, plain_gradient_flow
from ncexp.record import Record
from ncexp.simulations.central_path import (
    ExamplesPerClass,
    LastTime,
    NumClasses,
    NumFeatures,
    NumTimes,
    records_along,
)

#: The last time, in units of N C². Noise within classes falls about e-fold in a unit, and is lost in the rounding of
#: the features after some thirty.
LONGEST = 10


def on_path(
    seed: int,
    *,
    num_classes: NumClasses = 10,
    num_features: NumFeatures = 16,
    examples_per_class: ExamplesPerClass = 20,
    last_time: LastTime = 1e4,
    num_times: NumTimes = 60,
) -> Iterator[Record]:
    """Renormalized random features follow the gradient flow of L_LS(H), the layer being W_LS at λ = 0.

    Records and ValueErrors as of `records_along`; it takes no last_time beyond LONGEST.
    """

    def flow(features: Tensor, labels: Tensor, times: Tensor, _: torch.Generator) -> States:
        return on_path_gradient_flow(features, labels, num_classes, times)

    return records_along(flow, seed, (num_classes, num_features, examples_per_class), last_time, num_times, LONGEST)


def plain(
    seed: int,
    *,
    num_classes: NumClasses = 10,
    num_features: NumFeatures = 16,
    examples_per_class: ExamplesPerClass = 20,
    last_time: LastTime = 1e4,
    num_times: NumTimes = 60,
) -> Iterator[Record]:
    """Renormalized random features and a layer follow the gradient flow of L(W, b, H) at λ = 0; the layer begins as
    torch.nn.Linear draws it, uniform within ±1/√P.

    Records and ValueErrors as of `records_along`; it takes no last_time beyond LONGEST.
    """

    def flow(features: Tensor, labels: Tensor, times: Tensor, generator: torch.Generator) -> States:
        drawn = 2 * torch.rand(num_classes, num_features + 1, generator=generator, dtype=torch.float64) - 1
        layer = LinearClassifier(drawn[:, :-1] / num_features**0.5, drawn[:, -1] / num_features**0.5)
        return plain_gradient_flow(features, layer, labels, times)

    return records_along(flow, seed, (num_classes, num_features, examples_per_class), last_time, num_times, LONGEST)
