"""How far test examples lie from the decision boundary, at chosen epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field

from ncexp.analyses.look import Look
from ncexp.config import Count
from ncexp.robustness import robustness


class RobustnessAnalysis:
    """``test/robustness``, Ave ‖r(x)‖/‖x‖ with DeepFool's r (HPD22), and ``test/robustness_not_crossed``, a count.

    num_examples: that many test examples, drawn once by `sample_seed` (all, where there are fewer); epochs: after which
    to measure; None: at every analysis epoch. An epoch that is no analysis epoch is not looked at.
    """

    def __init__(
        self,
        *,
        num_examples: Count = 100,
        epochs: Annotated[list[Count], Field(min_length=1)] | None = None,
        sample_seed: int = 0,
    ) -> None:
        self._num_examples, self._epochs, self._seed = num_examples, epochs, sample_seed

    def __call__(self, look: Look) -> Iterator[tuple[str, float]]:
        if look.split != "test" or (self._epochs is not None and look.epoch not in self._epochs):
            return
        order = torch.randperm(len(look.data), generator=torch.Generator().manual_seed(self._seed))
        chosen = order[: self._num_examples].to(look.data.labels.device)
        inputs, _ = next(look.data.batches(len(chosen), chosen))
        found = robustness(look.network, inputs)
        yield "test/robustness", found.robustness
        yield "test/robustness_not_crossed", float(found.num_not_crossed)
