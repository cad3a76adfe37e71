"""The terms of the MSE decomposition (HPD22 Thm. 1 and 2) of one look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from ncexp.analyses.look import Look
from ncexp.collapse import decompose_mse


class MSEDecompositionAnalysis:
    """L and its terms as ``mse/loss``, ``mse/loss_nc1``, ... on train, ``mse/test_loss``, ... on test.

    On test the least-squares classifier is the test features' own. ``mse/identity_residual`` is the relative amount by
    which the terms fail to add up to L: rounding, or a defect.
    """

    def __call__(self, look: Look) -> Iterator[tuple[str, float]]:
        terms = decompose_mse(look.statistics, look.classifier, (look.ridge.weight, look.ridge.bias))
        prefix = "mse/" if look.split == "train" else f"mse/{look.split}_"
        for name, value in asdict(terms).items():
            yield prefix + name, value
        yield prefix + "identity_residual", terms.residual
