"""Unconstrained features: training finds the known global minimum. On the path: tests/training/test_regimes.py."""

from __future__ import annotations

import math

import pytest
import torch
from support import Compose, measured, slow

from ncexp.config import ConfigError, check
from ncexp.training import Assembly, assemble

C, N, P = 4, 5, 6
n = C * N
#: Full-batch descent on free features: a second or two of training.
FREE = [
    "loss=mse", "dataset=unconstrained", f"dataset.num_classes={C}", f"dataset.examples_per_class={N}",
    "architecture=unconstrained_features", f"architecture.num_features={P}", f"batch_size={n}",
    "optimizer=sgd_digits", "optimizer/schedule=constant", "optimizer.lr=0.3", "tracking.enabled=false",
]  # fmt: skip
#: What is left of float64 after sums of a hundred terms.
ROUNDING = 1e-12
#: Descent to a stationary point: the objective is quadratic there, so it is far better than its arguments.
CONVERGED, CONVERGED_ARGUMENT = 1e-10, 1e-6


def _objective(assembly: Assembly, weight_decay: float) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The loss that training descends, decay on W, b and H included; with the singular values of W H, and b."""
    network, data = assembly.training.network, assembly.dataset.train
    logits, features = network(data.inputs)  # type: ignore[attr-defined]
    squares = sum(float(parameter.detach().square().sum()) for parameter in network.parameters())
    loss = float(assembly.training.loss(logits, data.labels, features).detach()) + weight_decay / 2 * squares
    return loss, torch.linalg.svdvals(network.classifier.weight @ features.T), network.classifier.bias.detach()


def _global_minimum(scale: float, weight_decay: float) -> tuple[float, float, float]:
    """min over W, H, b of (s/2n) ‖W H + b1ᵀ − Y‖² + (wd/2)(‖W‖² + ‖H‖² + ‖b‖²): its value, σ(W H), and each b_c.

    For given Z = W H the penalty is at least wd ‖Z‖_* (with equality for balanced factors), which leaves a convex
    problem in (Z, b). Y has C singular values √N: one with right vector 1/√n, where b acts, and C − 1 orthogonal to it.
    - There, z minimises (s/2n)(z − √N)² + wd z: z = √N − n wd/s, or 0 (soft thresholding).
    - With b = (x/√n) 1/√C the bias carries x of the first, at the price (wd/2n) x², and Z nothing as long as the
      residual's slope (s/n)(√N − x) stays below wd: then x = √N s/(s + wd).
    """
    z = max(math.sqrt(N) - n * weight_decay / scale, 0.0)
    x = math.sqrt(N) * scale / (scale + weight_decay)
    assert scale / n * (math.sqrt(N) - x) <= weight_decay
    mode = scale / (2 * n) * (z - math.sqrt(N)) ** 2 + weight_decay * z
    mean = scale / (2 * n) * (x - math.sqrt(N)) ** 2 + weight_decay / (2 * n) * x**2
    return (C - 1) * mode + mean, z, x / math.sqrt(n * C)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "weight_decay"), [("1.0", 0.02), slow("2/C", 0.01), slow("1.0", 0.2)])
def test_unconstrained_features_train_to_the_minimum_of_regularised_mse(
    composed: Compose, scale: str, weight_decay: float
) -> None:
    """The third decay is beyond the threshold: features and classifier die, the bias alone is left."""
    raw = composed(f"loss.scale={scale}", f"optimizer.weight_decay={weight_decay}", "epochs=800", base=FREE)
    assembly = assemble(check(raw))
    for _ in range(800):
        assembly.training.run_epoch(lambda: False)
    loss, values, bias = _objective(assembly, weight_decay)
    least, z, mean = _global_minimum(2 / C if scale == "2/C" else float(scale), weight_decay)
    assert loss == pytest.approx(least, rel=CONVERGED)
    assert values.tolist() == pytest.approx([z] * (C - 1) + [0], abs=CONVERGED_ARGUMENT)
    assert bias.tolist() == pytest.approx([mean] * C, abs=CONVERGED_ARGUMENT)


@pytest.mark.slow
def test_unconstrained_features_decompose_with_the_ridge_of_the_run(composed: Compose) -> None:
    config = check(composed("optimizer.weight_decay=0.02", base=FREE))
    assembly = assemble(config)
    for _ in range(200):
        assembly.training.run_epoch(lambda: False)
    last = measured(assembly, config)
    assert last["train/mse/identity_residual"] < ROUNDING
    assert last["train/error"] == last["test/error"] == 0
    assert last["train/path/perp_share"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=digits"], "Choose dataset=unconstrained"),
        (
            ["dataset.num_classes=4", "dataset.examples_per_class=5000"],
            "expected at most 16384 examples in all, got 20000",
        ),
    ],
)
def test_unconstrained_features_refuse(composed: Compose, overrides: list[str], message: str) -> None:
    base = [o for o in FREE if not (o.startswith("dataset.") and overrides[0].startswith("dataset="))]
    with pytest.raises(ConfigError, match=message):
        assemble(check(composed(*overrides, "batch_size=20", base=base)))


def test_unconstrained_features_refuse_vectors_that_number_nothing(composed: Compose) -> None:
    base = [o for o in FREE if not o.startswith("dataset")]
    with pytest.raises(ConfigError, match="expected rows of the identity as inputs"):
        assemble(check(composed("dataset=gaussian_mixture", "dataset.num_features=20", base=base)))
