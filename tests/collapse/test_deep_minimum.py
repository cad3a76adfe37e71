"""Minima of free features behind linear layers, against the objective written out: autograd, L-BFGS from many random
starts, the equation that Dang et al. solve, and the minimum of one layer that is known otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from ncexp.collapse import DeepMinimum, deep_minimum, entropy_collapse, free_features_minimum, simplex_etf
from ncexp.collapse.deep_minimum import product_of

#: Float64, sums of a hundred terms; a gradient of sums of such; the root of a scalar equation.
ROUNDING, GRADIENT = 1e-12, 1e-10
#: What L-BFGS leaves of an objective, relative: its gradient is 1e-9, and the objective is quadratic there.
FOUND = 1e-9
Loss = str | float


def one_hot(sizes: Sequence[int]) -> Tensor:
    return torch.eye(len(sizes), dtype=torch.float64).repeat_interleave(torch.tensor(sizes), 0)


def drawn_targets(n: int, m: int, mean: float = 0.0) -> Tensor:
    drawn = torch.randn(n, m, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return drawn - drawn.mean(0) + mean


def objective(
    factors: Sequence[Tensor], bias: Tensor | None, targets: Tensor, decays: Sequence[float], loss: Loss,
    bias_decay: float | None,
) -> Tensor:  # fmt: skip
    """F, written out; loss: s of the MSE, or "cross-entropy"."""
    outputs = factors[0]
    for weight in factors[1:]:
        outputs = outputs @ weight.T
    outputs = outputs if bias is None else outputs + bias
    if isinstance(loss, float):
        data = loss / 2 * (outputs - targets).square().sum() / len(targets)
    else:
        data = -(targets * functional.log_softmax(outputs, 1)).sum() / len(targets)
    penalty = sum(decay / 2 * one.square().sum() for decay, one in zip(decays, factors, strict=True))
    of_bias = 0.0 if bias is None else (bias_decay or 0.0) / 2 * bias.square().sum()
    return data + penalty + of_bias


def least_found(
    targets: Tensor, width: int, decays: Sequence[float], loss: Loss, bias_decay: float | None, starts: int
) -> tuple[float, Tensor]:
    """The least objective of L-BFGS from random starts of several sizes, and W_k … W_1 h_i there."""
    n, m = targets.shape
    shapes = [(n, width), *[(width, width)] * (len(decays) - 2), (m, width), *([] if bias_decay is None else [(m,)])]
    counts = [int(np.prod(shape)) for shape in shapes]
    generator, results = np.random.default_rng(3), []

    def parts(flat: Tensor) -> tuple[list[Tensor], Tensor | None]:
        pieces = [p.reshape(s) for p, s in zip(flat.split(counts), shapes, strict=True)]
        return (pieces, None) if bias_decay is None else (pieces[:-1], pieces[-1])

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(flat, requires_grad=True)
        result = objective(*parts(at), targets, decays, loss, bias_decay)
        (slope,) = torch.autograd.grad(result, [at])
        return float(result.detach()), slope.numpy()

    for start in range(starts):
        first = generator.standard_normal(sum(counts)) * [0.3, 0.7, 1.0][start % 3]
        options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-17, "gtol": 1e-9, "maxcor": 30}
        results.append(minimize(value, first, jac=True, method="L-BFGS-B", options=options))
    best = min(results, key=lambda one: one.fun)
    return float(best.fun), product_of(parts(torch.tensor(best.x))[0])


def slopes(found: DeepMinimum, targets: Tensor, decays: Sequence[float], loss: Loss, bias_decay: float | None) -> float:
    """The largest entry of the gradient of F at a minimum."""
    given = [one.clone().requires_grad_() for one in [*found.factors, *([] if found.bias is None else [found.bias])]]
    factors, bias = (given, None) if found.bias is None else (given[:-1], given[-1])
    value = objective(factors, bias, targets, decays, loss, bias_decay)
    assert float(value.detach()) == pytest.approx(found.loss, rel=ROUNDING)
    return max(float(slope.abs().max()) for slope in torch.autograd.grad(value, given))


Case = tuple[Tensor, int, list[float], float | None, float]
#: Targets, width, decays λ_H, λ_1, ..., λ_b, s. All have modes that live; the third and the last lose some.
CASES = [
    (one_hot([4, 4, 4]), 4, [0.02, 0.05], 0.0, 1.0),
    (one_hot([4, 4, 4]), 5, [0.02, 0.05], 0.03, 0.5),
    (one_hot([6, 3, 1]), 3, [0.05, 0.1], None, 1.0),
    (one_hot([6, 3, 1]), 4, [0.01, 0.03, 0.02], 0.0, 2.0),
    (one_hot([5, 4, 2]), 3, [0.01, 0.004, 0.02, 0.01], None, 1.0),
    (drawn_targets(9, 3, mean=2.0), 3, [0.02, 0.03, 0.05], 0.0, 1.0),
    (drawn_targets(9, 3), 2, [0.02, 0.03, 0.02], 0.4, 1.0),
    (one_hot([8, 3, 1]), 4, [0.05, 0.06, 0.04], None, 1.0),
]


@pytest.mark.parametrize("case", CASES)
def test_deep_minimum_is_stationary_and_has_its_loss(case: Case) -> None:
    targets, width, decays, bias_decay, scale = case
    found = deep_minimum(targets, width, decays, bias_decay, scale)
    assert bool((found.scales > 0).any())
    assert slopes(found, targets, decays, scale, bias_decay) < GRADIENT
    singular = torch.linalg.svdvals(found.outputs)[: len(found.scales)]
    assert singular.tolist() == pytest.approx(found.scales.tolist(), abs=ROUNDING)
    assert torch.equal(found.features @ found.factors[-1].T, found.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_random_start_of_lbfgs_is_below_the_deep_minimum(case: Case) -> None:
    targets, width, decays, bias_decay, scale = case
    expected = deep_minimum(targets, width, decays, bias_decay, scale)
    least, outputs = least_found(targets, width, decays, scale, bias_decay, starts=12)
    assert least == pytest.approx(expected.loss, rel=FOUND)
    assert torch.allclose(outputs, expected.outputs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_deep_minimum_solves_the_equation_of_dang_et_al(layers: int) -> None:
    """Their code's equation for class c: b/n_c = M x^{M−1}/(x^M + 1)², b = M n (n λ_W^M λ_H)^{1/M}, of which the
    largest root counts, s_c^{2M} = n λ_H x^M, and W_M ⋯ W_1 has the Gram matrix diag(s^{2M}), class means
    diag(s^{2M}/(s^{2M} + n λ_H)²), each up to a factor. λ_H is that of ‖H‖², not of its average.
    """
    sizes, decay, features = [200, 100, 50, 50], 5e-4, 5e-4
    n, targets = sum(sizes), one_hot(sizes)
    found = deep_minimum(targets, 8, [features, *[decay] * layers], None)
    b = layers * n * (n * decay**layers * features) ** (1 / layers)
    powers = []
    for size in sizes:
        # b (x^M + 1)² − n_c M x^{M−1} = 0
        polynomial = np.polynomial.Polynomial([1, *[0] * (layers - 1), 1]) ** 2 * b
        polynomial -= np.polynomial.Polynomial([*[0] * (layers - 1), size * layers])
        powers.append(max(root.real for root in polynomial.roots() if abs(root.imag) < 1e-9) ** layers)
    s = n * features * np.array(powers)
    weight = product_of([torch.eye(8, dtype=torch.float64), *found.factors[1:]]).T
    means = targets.T @ found.factors[0] / torch.tensor(sizes, dtype=torch.float64)[:, None]
    for gram, diagonal in [(weight @ weight.T, s), (means @ means.T, s / (s + n * features) ** 2)]:
        expected = torch.diag(torch.tensor(diagonal / np.linalg.norm(diagonal)))
        assert torch.allclose(gram / gram.norm(), expected, rtol=0, atol=1e-8)  # roots of a polynomial of degree 12


def test_deep_minimum_of_one_layer_is_that_of_free_features() -> None:
    """Whose decay of features is that of their average."""
    targets = drawn_targets(20, 3, mean=1.0)
    known = free_features_minimum(targets, 5, 0.02, 0.3)
    found = deep_minimum(targets, 5, [0.3 / 20, 0.02])
    assert found.loss == pytest.approx(known.loss, rel=ROUNDING)
    assert torch.allclose(found.outputs, known.features @ known.weight.T, rtol=0, atol=ROUNDING)


def test_deep_minimum_vanishes_where_decay_wins() -> None:
    """At the second decay a nonzero product is a local minimum as well: (y − z) √z = n λ has a root; it is higher."""
    for decay, alive in [(0.08, True), (0.1, False)]:
        found = deep_minimum(one_hot([4, 4]), 2, [decay] * 4, None)
        assert bool((found.scales > 0).all()) is alive
        assert found.loss < 0.5 if alive else found.loss == 0.5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_entropy_collapse_is_a_stationary_simplex(smoothing: float) -> None:
    decays, sizes = [0.01, 0.03], [5] * 4
    targets = (1 - smoothing) * one_hot(sizes) + smoothing / 4
    found = entropy_collapse(4, 5, 6, decays, smoothing)
    assert slopes(found, targets, decays, "cross-entropy", 0.1) < GRADIENT
    gram, corners = found.factors[1] @ found.factors[1].T, simplex_etf(4, 3)
    assert torch.allclose(gram / gram.norm(), corners @ corners.T / (corners @ corners.T).norm(), rtol=0, atol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias_decay", [None, 0.05])
def test_no_random_start_of_lbfgs_is_below_entropy_collapse(smoothing: float, bias_decay: float | None) -> None:
    decays, targets = [0.01, 0.03], (1 - smoothing) * one_hot([3] * 4) + smoothing / 4
    least, outputs = least_found(targets, 4, decays, "cross-entropy", bias_decay, starts=9)
    found = entropy_collapse(4, 3, 4, decays, smoothing)
    assert least == pytest.approx(found.loss, rel=FOUND)
    assert torch.allclose(outputs, found.outputs, rtol=0, atol=1e-4)


def test_entropy_collapse_vanishes_where_decay_wins() -> None:
    found = entropy_collapse(3, 4, 4, [0.4, 0.4])
    assert found.loss == pytest.approx(np.log(3), rel=ROUNDING)
    assert not bool(found.outputs.any())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"targets": torch.zeros(4, dtype=torch.float64)}, "targets: expected a floating tensor"),
        ({"targets": torch.full((4, 2), torch.nan)}, "targets: expected finite"),
        ({"num_features": 0}, "num_features: expected at least 1"),
        ({"decays": [0.1]}, "decays: expected λ_H, λ_1, ..., λ_k"),
        ({"decays": [0.1, 0.0]}, "decays: expected finite numbers > 0, got 0.0"),
        ({"scale": 0.0}, "scale: expected finite numbers > 0"),
        ({"bias_decay": -1.0}, "bias_decay: expected a finite number >= 0 or None"),
        ({"bias_decay": 0.1, "targets": one_hot([5, 2, 1])}, "bias_decay: expected targets of mean 0"),
        ({"bias_decay": 0.1, "decays": [0.01] * 3}, "bias_decay: expected targets of mean 0"),
        ({"bias_decay": 1e3, "decays": [0.01] * 2}, "bias_decay: expected targets of mean 0"),
    ],
)
def test_deep_minimum_refuses(changed: dict[str, object], message: str) -> None:
    given = {"targets": one_hot([3, 3, 3]), "num_features": 3, "decays": [0.01, 0.01], **changed}
    with pytest.raises(ValueError, match=message):
        deep_minimum(**given)  # type: ignore[arg-type]


def test_entropy_collapse_refuses() -> None:
    for given, message in [
        ((4, 3, 2, [0.1, 0.1]), "P >= C − 1"),
        ((4, 3, 3, [0.1, 0.1, 0.1]), "Of more layers the minimum is not known"),
        ((4, 3, 3, [0.1, 0.0]), "decays: expected finite numbers > 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            entropy_collapse(*given)  # type: ignore[arg-type]
