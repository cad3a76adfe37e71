"""Unconstrained features: the tied classifier is least squares, and training finds the known global minimum."""

from __future__ import annotations

import math

import pytest
import torch
from support import Compose

from ncexp.assembly import Assembly, assemble
from ncexp.collapse import class_statistics, least_squares_classifier, snr_singular_values
from ncexp.collapse.gradient_flow import renormalize
from ncexp.config import ConfigError, check

C, N, P = 4, 5, 6
n = C * N
#: Full-batch descent on free features: a second or two of training.
FREE = [
    "loss=mse", "dataset=unconstrained", f"dataset.num_classes={C}", f"dataset.examples_per_class={N}",
    "architecture=unconstrained_features", f"architecture.num_features={P}", f"batch_size={n}",
    "optimizer/schedule=constant", "optimizer.lr=0.3", "tracking.enabled=false",
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
    loss = float(assembly.training.loss(logits, data.labels).detach()) + weight_decay / 2 * squares
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


@pytest.mark.parametrize(("scale", "weight_decay"), [("1.0", 0.02), ("2/C", 0.01), ("1.0", 0.2)])
def test_unconstrained_features_train_to_the_global_minimum_of_regularised_mse(
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


def test_unconstrained_features_decompose_with_the_ridge_of_the_run(composed: Compose) -> None:
    assembly = assemble(check(composed("optimizer.weight_decay=0.02", base=FREE)))
    for _ in range(200):
        assembly.training.run_epoch(lambda: False)
    last = assembly.look()
    assert last["mse/identity_residual"] < ROUNDING
    assert last["train/error"] == last["test/error"] == 0
    assert last["path/perp_share"] < 1e-3


def test_tied_classifier_is_least_squares_of_all_features_whatever_the_batch(composed: Compose) -> None:
    assembly = assemble(check(composed("architecture.classifier=least_squares", base=FREE)))
    network, data = assembly.training.network, assembly.dataset.train
    logits, features = network(data.inputs[3:5])  # type: ignore[attr-defined]
    table = network.backbone.table.detach()  # type: ignore[union-attr]
    best = least_squares_classifier(class_statistics(table, data.labels, C), 0.0)
    torch.testing.assert_close(network.classifier.weight, best.weight, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(network.classifier.bias, best.bias, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(logits.detach(), best(features), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_tied_classifier_sends_the_gradient_through_itself(composed: Compose, loss: str) -> None:
    """Against central differences of the loss as a function of H."""
    assembly = assemble(check(composed("architecture.classifier=least_squares", f"loss={loss}", base=FREE)))
    network, data = assembly.training.network, assembly.dataset.train
    table = network.backbone.table  # type: ignore[union-attr]

    def value() -> torch.Tensor:
        return assembly.training.loss(network(data.inputs)[0], data.labels)  # type: ignore[attr-defined]

    value().backward()
    direction = torch.randn(n, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-5
    with torch.no_grad():
        table += step * direction
        above = float(value())
        table -= 2 * step * direction
        below = float(value())
    assert float((table.grad * direction).sum()) == pytest.approx((above - below) / (2 * step), rel=1e-7)


def test_tied_classifier_stays_on_the_central_path_and_collapses(composed: Compose) -> None:
    overrides = ["architecture.classifier=least_squares", "optimizer.lr=3.0", "optimizer.weight_decay=0.0"]
    assembly = assemble(check(composed(*overrides, base=FREE)))
    records = [assembly.look()]
    for _ in range(100):
        assembly.training.run_epoch(lambda: False)
    records.append(assembly.look())
    assert all(record["path/perp_share"] < ROUNDING for record in records)
    assert all(record["path/identity_residual"] < 1e3 * ROUNDING for record in records)  # Σ_T to the power −1
    assert records[-1]["mse/loss"] < 0.1 * records[0]["mse/loss"]
    assert assembly.facts()["num_parameters"] == n * P  # H alone is trained


def test_tied_classifier_without_renormalization_lets_every_mode_grow_exponentially(composed: Compose) -> None:
    """Plain descent from Σ_W = I: with m_j, σ_j the sizes of class means and noise along mode j, ω_j = m_j/σ_j,

    dm_j/dt = (1/n) (ω_j/σ_j) C/(C + ω_j²)² and dσ_j/dt = −(1/n) (ω_j²/σ_j)/(C + ω_j²)². So E_j = m_j² + C σ_j² is
    conserved, and d log ω_j/dt = 1/(n E_j): ω_j(t) = ω_j(0) exp(t/(n (C + ω_j(0)²))). Modes catch up, cross and part.
    """
    overrides = ["architecture.classifier=least_squares", "optimizer.momentum=0.0", "optimizer.weight_decay=0.0"]
    assembly = assemble(check(composed(*overrides, "optimizer.lr=0.5", base=FREE)))
    table, labels = assembly.training.network.backbone.table, assembly.dataset.train.labels  # type: ignore[union-attr]
    with torch.no_grad():
        table.copy_(renormalize(table, labels, C))  # type: ignore[operator, arg-type]
    start = snr_singular_values(class_statistics(table.detach(), labels, C))  # type: ignore[operator]
    for _ in range(400):
        assembly.training.run_epoch(lambda: False)
    grown = start * (0.5 * 400 / (n * (C + start.square()))).exp()
    measured = snr_singular_values(class_statistics(table.detach(), labels, C))  # type: ignore[operator]
    assert grown.argsort().tolist() != start.argsort().tolist()
    assert measured.tolist() == pytest.approx(sorted(grown.tolist(), reverse=True), rel=0.01)  # Euler's steps


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=digits"], "Choose dataset=unconstrained"),
        (["architecture.classifier=least_squares", "architecture.num_features=17"], "expected at most n - C = 16"),
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
