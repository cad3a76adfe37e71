"""conf/config.yaml's `regime`: is the last layer trained (plain), or is it the least-squares one at every step?

on_path: the classifier is W̃_LS of the step's features, with the λ of the objective, and the features descend L_LS(H);
gradients go through the solve. renormalized: the same of X = Σ_W^{-1/2} H, with Σ_W and the deviations from class means
held fixed in the step, which is the flow of HPD22's theorem (`ncexp.collapse.on_path`). Statistics are those of the
step's batch: of all examples where batch_size is their number.

The classifier's own parameters get no gradient, so no optimizer moves or decays them. They are set before every
evaluation, to W̃_LS of all training features in eval mode: what is measured, kept and restored is on the path as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ncexp.architectures.network import RenormalizedNetwork
from ncexp.architectures.unconstrained_features import FreeFeatures
from ncexp.collapse import (
    ClassStatistics,
    ClassStatisticsAccumulator,
    least_squares_classifier,
    least_squares_map,
    target_statistics,
)
from ncexp.collapse.on_path import least_squares_step, renormalized_step, renormalizer
from ncexp.config import Regime
from ncexp.datasets import Examples
from ncexp.training.machine import Diverged

_EVALUATED_AT_ONCE = 512


class PathRegime:
    """The last layer of one training on the central path: in a step, after it, and before an evaluation.

    regime: "on_path" or "renormalized"; ridge: (λ_W, λ_b) of the objective s · (½ Ave ‖·‖² + penalty), scale its s;
    data: the training examples.
    """

    def __init__(
        self, regime: Regime, network: nn.Module, ridge: tuple[float, float], scale: float, data: Examples
    ) -> None:
        self._renormalizes = regime == "renormalized"
        self._network, self._ridge, self._scale, self._data = network, ridge, scale, data
        if self._renormalizes:
            self.after_step()  # free features begin renormalized

    @property
    def _layer(self) -> nn.Linear:
        layer = self._network.classifier
        assert isinstance(layer, nn.Linear)
        return layer

    def step(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (n, C) of the least-squares layer, s · its penalty, and its L_LS^⊥/L; raises Diverged where the
        step's features have none.
        """
        compute = renormalized_step if self._renormalizes else least_squares_step
        layer = self._layer
        done = _or_diverged(compute, features, labels, layer.out_features, self._ridge, layer.bias is not None)
        return done.logits, self._scale * done.penalty, done.perp_share

    @torch.no_grad()
    def after_step(self) -> None:
        """Free features that are trained renormalized stay so: H becomes Σ_W^{-1/2} H, the same point of the path."""
        table = self._free_features() if self._renormalizes else None
        if table is not None:
            labels = torch.cat([labels for _, labels in self._data.batches(len(table))])
            classes = self._layer.out_features
            table.copy_(table @ _or_diverged(renormalizer, _statistics([(table, labels)], classes, table)))

    @torch.no_grad()
    def settle(self) -> None:
        """Set the classifier, and the renormalization, to those of all training features in eval mode.

        Raises Diverged where they have none.
        """
        self._network.eval()
        layer = self._layer
        if self._renormalizes:
            assert isinstance(self._network, RenormalizedNetwork)
            self._network.renormalizer.copy_(torch.eye(layer.in_features))
            self._network.renormalizer.copy_(_or_diverged(renormalizer, self._measured()))
        find = least_squares_map if self._data.labels.is_floating_point() else least_squares_classifier
        best = _or_diverged(find, self._measured(), self._ridge, layer.bias is not None)
        layer.weight.copy_(best.weight)
        if layer.bias is not None:
            layer.bias.copy_(best.bias)

    def _measured(self) -> Any:
        batches = ((self._network(inputs)[1], labels) for inputs, labels in self._data.batches(_EVALUATED_AT_ONCE))
        if self._data.labels.is_floating_point():
            return target_statistics(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
        return _statistics(batches, self._layer.out_features, self._layer.weight)

    def _free_features(self) -> Tensor | None:
        assert isinstance(self._network, RenormalizedNetwork)
        backbone = getattr(self._network.network, "backbone", None)
        return backbone.table if isinstance(backbone, FreeFeatures) and not backbone.layers else None


def refuse_regime(
    regime: Regime,
    scale: float | None,
    layer: nn.Linear,
    smallest_batch: int,
    num_processes: int,
    of_targets: bool = False,
) -> None:
    """Raises ValueError for what cannot be trained on the path whatever its λ.

    scale: s of the loss s · ½ Ave ‖·‖², None for another loss; layer: the last; smallest_batch: of an epoch.
    """
    if scale is None:
        raise ValueError(
            f"regime: expected plain with a loss that is no multiple of the MSE, got {regime}. "
            "Set loss=mse, of targets squared_error."
        )
    if num_processes > 1:
        raise ValueError(f"regime: expected plain with {num_processes} processes, got {regime}. Train on one.")
    if not isinstance(layer.weight, nn.Parameter):
        raise ValueError(
            f"regime: expected plain with a fixed last layer, or a normalised one, got {regime}. Set "
            "architecture.head=linear."
        )
    if regime == "renormalized" and of_targets:
        raise ValueError("regime: expected plain or on_path with targets, which have no Σ_W, got renormalized.")
    if regime == "renormalized":
        refuse_small_batches(regime, layer, smallest_batch)


def smallest_batch(num_examples: int, batch_size: int) -> int:
    """The examples of an epoch's smallest batch: the last one's, where they do not come out even."""
    return num_examples % batch_size or batch_size


def refuse_small_batches(regime: Regime, layer: nn.Linear, smallest: int) -> None:
    """Raises ValueError where a batch has fewer than P + C examples: then Σ_W has no full rank, and at λ = 0 a
    least-squares layer fits any labels.
    """
    if smallest < layer.in_features + layer.out_features:
        raise ValueError(
            f"batch_size: expected batches of at least P + C = {layer.in_features + layer.out_features} examples with "
            f"regime={regime}, got one of {smallest} in every epoch. Choose a divisor of the number of training "
            "examples that is large enough, or a narrower network."
        )


def _statistics(batches: Any, num_classes: int, like: Tensor) -> ClassStatistics:
    accumulator: ClassStatisticsAccumulator | None = None
    for features, labels in batches:
        if accumulator is None:
            accumulator = ClassStatisticsAccumulator(num_classes, features.shape[1], device=like.device)
        accumulator.update(features, labels)
    assert accumulator is not None
    return accumulator.compute()


def _or_diverged(compute: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns; its complaint about features, which were sound when the training began, ends the training."""
    try:
        return compute(*arguments)
    except ValueError as error:
        raise Diverged(f"no point of the central path: {error}") from error
