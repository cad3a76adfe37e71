"""How far test examples lie from the decision boundary."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ncexp.config import Count, Seed
from ncexp.measure.deepfool import robustness
from ncexp.measure.evaluation import Evaluation, Needs


class RobustnessAnalysis:
    """``test/robustness/ratio``: Ave ‖r(x)‖/‖x‖ with DeepFool's r (HPD22); ``test/robustness/not_crossed``: a count.

    num_examples: that many test examples, drawn once by `sample_seed` (all, where there are fewer).
    """

    needs: Needs = "network"

    def __init__(self, *, num_examples: Count = 100, sample_seed: Seed = 0) -> None:
        self._num_examples, self._seed = num_examples, sample_seed

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.split != "test":
            return
        data = evaluation.data
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(self._seed))
        chosen = order[: self._num_examples].to(data.labels.device)
        inputs, _ = next(data.batches(len(chosen), chosen))
        found = robustness(evaluation.network, inputs)
        yield "robustness/ratio", found.robustness
        yield "robustness/not_crossed", float(found.num_not_crossed)
