"""The numbers of the weights that are trained, beside those of their averages, on which a run is evaluated."""

from __future__ import annotations

from collections.abc import Iterator

from ncexp.measure.analyses.from_statistics import LossAndError, NeuralCollapse
from ncexp.measure.evaluation import Evaluation, Needs
from ncexp.measure.evaluator import Subject, evaluate
from ncexp.measure.snapshot import Snapshot


class TrainedWeights:
    """``trained/loss``, ``trained/error`` and every number of `NeuralCollapse`, as ``trained/cdnv``, of θ in
    a run with `optimizer.average`, whose other numbers are those of θ̄. One more pass over all splits.

    θ is in no file that is kept, so it is measured while the run trains, or not at all.
    """

    needs: Needs = "network"

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None

    def check(self, subject: Subject) -> None:
        """Raises ValueError where the weights that are evaluated are no averages, or those behind them are gone."""
        if subject.averages is None:
            raise ValueError(
                "averages: expected a run that trains with optimizer.average=ema or swa, got none. Leave the analysis "
                "out: every other one measures the only weights there are."
            )

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        subject = evaluation.subject
        assert subject is not None
        assert subject.averages is not None
        if self._snapshot is None or evaluation.split == next(iter(evaluation.snapshot.splits)):
            with subject.averages.set_aside():
                self._snapshot = evaluate(subject, evaluation.epoch, {})
        of_trained = Evaluation(evaluation.split, evaluation.epoch, self._snapshot)
        for analysis in (LossAndError(), NeuralCollapse()):
            for name, value in analysis(of_trained):
                if not name.startswith("classes/"):  # the same for any weights
                    yield f"trained/{name.rpartition('/')[2]}", value
