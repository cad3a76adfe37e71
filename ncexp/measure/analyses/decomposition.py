"""The terms of the MSE decomposition (HPD22 Thm. 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from ncexp.collapse import decompose_mse
from ncexp.measure.evaluation import Evaluation, Needs


class MSEDecompositionAnalysis:
    """L and its terms as ``train/mse/loss``, ``train/mse/loss_nc1``, ..., and the same on test.

    On test the least-squares classifier is the test features' own. ``mse/identity_residual`` is the relative amount by
    which the terms fail to add up to L; above ``mse/loss_rounding`` / L they are in doubt, and summary, report and
    frame say so. ``mse/loss_nc1_data`` and ``mse/loss_nc1_decay`` are the parts of L_NC1 that the data and the weight
    decay have in it, and so for every term that has two. ``mse/ridge_weight`` and ``mse/ridge_bias`` are the λ of this
    epoch, which a loop may change.
    """

    needs: Needs = "statistics"
    #: 2: the data and decay parts; 3: λ of the epoch, loss_rounding; at λ = 0 each unit measured in its own rounding.
    version = 3

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        ridge = (evaluation.ridge.weight, evaluation.ridge.bias)
        terms = decompose_mse(evaluation.statistics, evaluation.classifier, ridge)
        for name, value in asdict(terms).items():
            yield f"mse/{name}", value
        yield "mse/identity_residual", terms.residual
        if evaluation.split == "train":  # the same on test
            yield "mse/ridge_weight", evaluation.ridge.weight
            yield "mse/ridge_bias", evaluation.ridge.bias
