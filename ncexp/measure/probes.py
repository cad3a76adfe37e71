"""Class statistics of what named submodules put out, gathered while an evaluation pass runs the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ncexp.collapse import ClassStatistics, ClassStatisticsAccumulator
from ncexp.config import nearest

#: A submodule's output (n, ...) → features (n, P).
Reduction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Probe:
    """A submodule, named as in network.named_modules(), and what makes features of its output."""

    module: str
    reduce: Reduction

    @property
    def name(self) -> str:
        """``backbone.3 average``: by which snapshots know its statistics."""
        return f"{self.module} {self.reduce.__name__}"


def flatten(output: Tensor) -> Tensor:
    """(n, ...) → (n, P), P the product of all that follows the batch."""
    return output.flatten(1)


def average(output: Tensor) -> Tensor:
    """(n, channels, ...) → (n, channels): the mean over positions; (n, P) stays as it is."""
    return output.flatten(2).mean(2) if output.dim() > 2 else output


#: By the names that an analysis takes.
REDUCTIONS: dict[str, Reduction] = {"average": average, "flatten": flatten}


class Probes:
    """One accumulator per probe; `watching` hooks the submodules for the length of a pass, and not longer.

    probes: by name. Raises ValueError for a name that is no submodule, the valid ones listed.
    """

    def __init__(self, network: nn.Module, probes: Mapping[str, Probe], num_classes: int) -> None:
        modules = {name: module for name, module in network.named_modules() if name}
        for probe in probes.values():
            if probe.module not in modules:
                raise ValueError(
                    f"modules: expected names of submodules, got {probe.module!r}. {nearest(probe.module, [*modules])}"
                )
        self._modules = {name: modules[probe.module] for name, probe in probes.items()}
        self._probes = dict(probes)
        self._num_classes = num_classes
        self._outputs: dict[str, Tensor] = {}
        self._accumulators: dict[str, ClassStatisticsAccumulator] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the last output of each submodule for `update` to take."""
        handles = [module.register_forward_hook(partial(self._keep, name)) for name, module in self._modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def widths(self) -> list[int]:
        """P of each probe's features, from the batch that just ran."""
        return [probe.reduce(self._outputs.pop(name)).shape[1] for name, probe in self._probes.items()]

    def take(self) -> dict[str, Tensor]:
        """The features of each probe, by name, of the batch that just ran."""
        return {name: probe.reduce(self._outputs.pop(name)) for name, probe in self._probes.items()}

    def update(self, labels: Tensor) -> None:
        """Add the outputs of the batch that just ran; labels (n,) are its."""
        for name, probe in self._probes.items():
            features = probe.reduce(self._outputs.pop(name))
            if name not in self._accumulators:
                width = features.shape[1]
                self._accumulators[name] = ClassStatisticsAccumulator(self._num_classes, width, device=features.device)
            self._accumulators[name].update(features, labels)

    def all_reduce(self) -> None:
        """Make the sums those of all processes; collective."""
        for accumulator in self._accumulators.values():
            accumulator.all_reduce()

    def compute(self) -> dict[str, ClassStatistics]:
        """The statistics by the probe's name."""
        return {name: accumulator.compute() for name, accumulator in self._accumulators.items()}

    def _keep(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._outputs[name] = output
