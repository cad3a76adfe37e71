"""Collapse through depth: the same look at the outputs of any named submodules, in the same pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from ncexp.analyses.look import Look
from ncexp.analyses.probes import Reduction, average, flatten
from ncexp.collapse import LinearClassifier, measure_collapse

#: The metrics of CollapseMetrics that a layer without a classifier has.
QUANTITIES = (
    "nc1_trace",
    "nc1_ratio",
    "cdnv",
    "equinorm_means",
    "equiangularity_means",
    "maximal_angle_means",
    "etf_error_means",
    "effective_rank_means",
)


class LayerwiseCollapse:
    """All QUANTITIES of each submodule as ``layers/nc1_ratio_backbone.3``, on test ``layers/test_nc1_ratio_...``.

    modules: names as in network.named_modules(), such as backbone.3; features: what is made of a convolution's output
    (n, channels, height, width): ``average`` over positions, P = channels, or ``flatten``, P = channels·height·width.
    """

    def __init__(
        self,
        *,
        modules: Annotated[list[str], Field(min_length=1)],
        features: Literal["average", "flatten"] = "average",
    ) -> None:
        reduction = average if features == "average" else flatten
        self.probes: Mapping[str, Reduction] = dict.fromkeys(modules, reduction)

    def __call__(self, look: Look) -> Iterator[tuple[str, float]]:
        prefix = "layers/" if look.split == "train" else f"layers/{look.split}_"
        for module in self.probes:
            statistics = look.layers[module]
            metrics = measure_collapse(statistics, LinearClassifier(statistics.class_means))
            for quantity in QUANTITIES:
                yield f"{prefix}{quantity}_{module}", getattr(metrics, quantity)
