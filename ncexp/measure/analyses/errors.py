"""Loss and error of every split; measured of every run, whatever else is chosen."""

from __future__ import annotations

from collections.abc import Iterator

from ncexp.measure.evaluation import Evaluation, Needs


class LossAndError:
    """``train/loss``, the training loss without decay; ``train/error``, the share of examples decided wrongly.

    The same on test; in eval mode, over all examples.
    """

    needs: Needs = "statistics"

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        yield "loss", evaluation.mean_loss
        yield "error", evaluation.error
