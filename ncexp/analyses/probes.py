"""Class statistics of what named submodules put out, gathered while a look runs the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ncexp.collapse import ClassStatistics, ClassStatisticsAccumulator
from ncexp.config import nearest

#: A submodule's output (n, ...) → features (n, P).
Reduction = Callable[[Tensor], Tensor]


def flatten(output: Tensor) -> Tensor:
    """(n, ...) → (n, P), P the product of all that follows the batch."""
    return output.flatten(1)


def average(output: Tensor) -> Tensor:
    """(n, channels, ...) → (n, channels): the mean over positions; (n, P) stays as it is."""
    return output.flatten(2).mean(2) if output.dim() > 2 else output


class Probes:
    """One accumulator per submodule; `watching` hooks them for the length of a pass, and not longer.

    reductions: submodule's name, as in network.named_modules() → what makes features of its output.
    Raises ValueError for a name that is no submodule, the valid ones listed.
    """

    def __init__(self, network: nn.Module, reductions: Mapping[str, Reduction], num_classes: int) -> None:
        modules = {name: module for name, module in network.named_modules() if name}
        for name in reductions:
            if name not in modules:
                raise ValueError(f"modules: expected names of submodules, got {name!r}. {nearest(name, [*modules])}")
        self._modules = {name: modules[name] for name in reductions}
        self._reductions = dict(reductions)
        self._num_classes = num_classes
        self._outputs: dict[str, Tensor] = {}
        self._accumulators: dict[str, ClassStatisticsAccumulator] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the last output of each submodule for `update` to take."""
        handles = [module.register_forward_hook(self._keep(name)) for name, module in self._modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def update(self, labels: Tensor) -> None:
        """Add the outputs of the batch that just ran; labels (n,) are its."""
        for name, reduce in self._reductions.items():
            features = reduce(self._outputs.pop(name))
            if name not in self._accumulators:
                width = features.shape[1]
                self._accumulators[name] = ClassStatisticsAccumulator(self._num_classes, width, device=features.device)
            self._accumulators[name].update(features, labels)

    def all_reduce(self) -> None:
        """Make the sums those of all processes; collective."""
        for accumulator in self._accumulators.values():
            accumulator.all_reduce()

    def compute(self) -> dict[str, ClassStatistics]:
        """The statistics by submodule, in the order in which they were asked for."""
        return {name: accumulator.compute() for name, accumulator in self._accumulators.items()}

    def _keep(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._outputs[name] = output

        return hook
