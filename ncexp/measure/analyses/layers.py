"""Collapse through depth: the statistics of any named submodules, gathered in the same pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from ncexp.collapse import LinearClassifier, measure_collapse
from ncexp.measure.evaluation import Evaluation, Needs
from ncexp.measure.probes import Probe, average, flatten
from ncexp.record.quantities import OF_LAYERS


class LayerwiseCollapse:
    """OF_LAYERS, what CollapseMetrics has of a layer without a classifier, of each submodule:
    ``train/layers/backbone.3/nc1_ratio``, on test likewise.

    modules: names as in network.named_modules(), such as backbone.3; features: what is made of a convolution's output
    (n, channels, height, width): ``average`` over positions, P = channels, or ``flatten``, P = channels·height·width.
    """

    needs: Needs = "statistics"
    #: 2: ranks at the precision of the features.
    version = 2

    def __init__(
        self,
        *,
        modules: Annotated[list[str], Field(min_length=1)],
        features: Literal["average", "flatten"] = "average",
    ) -> None:
        reduction = average if features == "average" else flatten
        probes = [Probe(module, reduction) for module in modules]
        self.probes: Mapping[str, Probe] = {probe.name: probe for probe in probes}

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        for probe in self.probes.values():
            statistics = evaluation.layer(probe)
            metrics = measure_collapse(statistics, LinearClassifier(statistics.class_means))
            for row in OF_LAYERS:
                yield row.name.replace("<module>", probe.module), getattr(metrics, row.quantity)
