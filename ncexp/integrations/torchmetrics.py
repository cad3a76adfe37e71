"""torchmetrics: neural collapse as a Metric, which sums up batches and processes. `pip install ncexp[torchmetrics]`."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ncexp.collapse import ClassStatisticsAccumulator, LinearClassifier, measure_collapse
from ncexp.integrations import installed

with installed("torchmetrics"):
    from torchmetrics import Metric


class _CopyOf:
    """The copy of a layer, where a deepcopy has made one, else the layer: known once the whole of it is done."""

    def __init__(self, layer: nn.Linear, memo: dict[int, Any]) -> None:
        self._layer, self._identity, self._memo = weakref.ref(layer), id(layer), memo

    def __call__(self) -> nn.Linear | None:
        copied: nn.Linear | None = self._memo.get(self._identity)
        return self._layer() if copied is None else copied


class NeuralCollapse(Metric):
    """Every field of `ncexp.collapse.CollapseMetrics`, of the features that were taken in since the last reset.

    classifier: the last layer, read as it stands when `compute` is called; the metric neither owns nor copies it. A
    metric that is copied or pickled with its model is of the copy's layer; one that is copied alone, of the same.
    The sums are float64, whatever the model is cast to.
    `update(features, labels)`: features (n, P), the layer's inputs; labels (n,). `compute()`: numbers by name, float64
    on the CPU; of several processes, those of all examples together. Raises ValueError where a class has no example.

    A batch alone has no collapse of its own, so `forward` is `update` and returns nothing.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    def __init__(self, classifier: nn.Linear, **options: Any) -> None:
        super().__init__(**options)
        self._num_classes, self._num_features = classifier.out_features, classifier.in_features
        self._classifier: Callable[[], nn.Linear | None] = weakref.ref(classifier)
        device = classifier.weight.device
        self._names = []
        for name, value in (
            ClassStatisticsAccumulator(self._num_classes, self._num_features, "cpu").state_dict().items()
        ):
            self.add_state(name, value, dist_reduce_fx=None)  # of all processes, one upon the other
            self._names.append(name)
        self.to(device)

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take in a batch."""
        self._layer()
        accumulator = self._accumulator({name: getattr(self, name) for name in self._names})
        accumulator.update(features, labels)
        for name, value in accumulator.state_dict().items():
            setattr(self, name, value)

    def forward(self, features: Tensor, labels: Tensor) -> None:
        """As `update`."""
        self.update(features, labels)

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name."""
        layer = self._layer()
        if layer is None:
            raise ValueError("classifier: expected the layer of a model in use, got one that is gone. Keep the model.")
        states = {name: getattr(self, name) for name in self._names}
        if states["counts"].dim() == 1:  # not synchronised: of this process alone
            states = {name: value.unsqueeze(0) for name, value in states.items()}
        total = self._accumulator({})
        for of_one in zip(*states.values(), strict=True):
            total.merge(self._accumulator(dict(zip(states, of_one, strict=True))))
        bias = None if layer.bias is None else layer.bias.detach()
        metrics = measure_collapse(total.compute(), LinearClassifier(layer.weight.detach(), bias))
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in asdict(metrics).items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> NeuralCollapse:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        state = {name: value for name, value in super().__getstate__().items() if name != "_classifier"}
        layer = self._layer()
        later = self._classifier if layer is None else _CopyOf(layer, memo)
        Metric.__setstate__(copied, copy.deepcopy(state, memo) | {"_classifier": later})
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """With the layer itself, as no weak reference can be pickled: of a pickled model, the model's own."""
        return {**super().__getstate__(), "_classifier": self._layer()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        layer = state["_classifier"]
        super().__setstate__(state | {"_classifier": lambda: layer})  # of one that was pickled alone nobody else has it

    def _apply(self, fn: Callable[[Tensor], Tensor], *arguments: Any) -> NeuralCollapse:
        """Moved to a device, but never cast: torchmetrics refuses `module.half()` and not `module.to(torch.half)`."""

        def moved(value: Tensor) -> Tensor:
            return value.to(fn(value).device)

        super()._apply(moved, *arguments)
        return self

    def _layer(self) -> nn.Linear | None:
        """The layer, None where it is gone; of a copy, that of the model that was copied with it."""
        layer = self._classifier()
        if layer is not None and isinstance(self._classifier, _CopyOf):
            self._classifier = weakref.ref(layer)
        return layer

    def _accumulator(self, states: dict[str, Tensor]) -> ClassStatisticsAccumulator:
        """One that goes on from these states, which it takes over; from nothing where there are none."""
        accumulator = ClassStatisticsAccumulator(self._num_classes, self._num_features, self.device)
        if states:
            accumulator.load_state_dict(states)
        return accumulator
