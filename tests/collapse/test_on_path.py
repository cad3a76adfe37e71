"""The differentiable least-squares layer and the renormalized step, against the collapse library and the flow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ncexp.collapse import (
    class_statistics,
    decompose_mse,
    least_squares_classifier,
)
from ncexp.collapse.gradient_flow import flow_velocity, renormalize
from ncexp.collapse.on_path import least_squares_step, renormalized_step, renormalizer

C, P, N = 4, 6, 10
n = C * N
LABELS = torch.arange(C).repeat_interleave(N)
TARGETS = torch.nn.functional.one_hot(LABELS, C).double()
#: float64 sums of a hundred terms, on problems of condition number 10; the same twice, through a factorisation.
ROUNDING, SOLVED = 1e-13, 1e-10
RIDGES = [(0.0, 0.0), (0.03, 0.03), (0.03, 0.0)]


def features(seed: int = 0, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(C, P, generator=generator, dtype=torch.float64)
    mixed = torch.randn(n, P, generator=generator, dtype=torch.float64) @ torch.diag(torch.linspace(1, 3, P).double())
    return (means[LABELS] + spread * mixed + 2).requires_grad_()


def mse(logits: Tensor, labels: Tensor = LABELS) -> Tensor:
    targets = torch.nn.functional.one_hot(labels, C).to(logits)
    return (logits - targets).square().sum() / (2 * len(labels))


def gradient(loss: Tensor, h: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, h)
    return found


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("bias", [True, False])
def test_least_squares_step_has_the_loss_of_the_least_squares_classifier(
    ridge: tuple[float, float], bias: bool
) -> None:
    h = features()
    statistics = class_statistics(h.detach(), LABELS, C)
    best = least_squares_classifier(statistics, ridge, bias)
    step = least_squares_step(h, LABELS, C, ridge, bias)
    torch.testing.assert_close(step.logits.detach(), best(h), rtol=SOLVED, atol=SOLVED)
    least = decompose_mse(statistics, best, ridge).loss_ls
    assert float((mse(step.logits) + step.penalty).detach()) == pytest.approx(least, rel=SOLVED)
    assert float(step.perp_share) < ROUNDING**2 * 1e3


@pytest.mark.parametrize("ridge", RIDGES)
def test_least_squares_step_sends_the_gradient_through_the_solve(ridge: tuple[float, float]) -> None:
    """Against central differences of the logits, and of the loss, where the envelope theorem would hide a fault."""
    h, direction = features(), torch.randn(n, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def some_function(h: Tensor) -> Tensor:
        step = least_squares_step(h, LABELS, C, ridge)
        return (step.logits * TARGETS.flip(0)).sum() + step.logits.pow(3).sum() + 7 * step.penalty

    step = 1e-5
    with torch.no_grad():
        slope = (some_function(h + step * direction) - some_function(h - step * direction)) / (2 * step)
    assert float((gradient(some_function(h), h) * direction).sum()) == pytest.approx(float(slope), rel=1e-6)


def test_least_squares_step_takes_dead_units_and_copies_without_decay() -> None:
    h = features()
    twice = torch.cat([h, h[:, :2], torch.zeros(n, 1)], dim=1)
    once, more = (least_squares_step(one, LABELS, C, (0.0, 0.0)) for one in (h, twice))
    torch.testing.assert_close(more.logits, once.logits, rtol=SOLVED, atol=SOLVED)
    torch.testing.assert_close(gradient(mse(more.logits), h), gradient(mse(once.logits), h), rtol=SOLVED, atol=SOLVED)


def test_least_squares_step_takes_a_batch_without_some_class() -> None:
    h, seen = features(), LABELS != 2
    step = least_squares_step(h[seen], LABELS[seen], C, (0.0, 0.0))
    assert float(step.logits[:, 2].abs().max().detach()) < ROUNDING
    with pytest.raises(ValueError, match="expected at least two classes in a batch"):
        least_squares_step(h[:5], LABELS[:5], C, (0.0, 0.0))


def test_renormalized_step_has_the_gradient_of_the_projected_flow() -> None:
    """On {Σ_W = I}: −∇ of the step is dX/dt of `flow_velocity`, which knows no autograd."""
    x = renormalize(features(), LABELS, C).requires_grad_()
    step = renormalized_step(x, LABELS, C, (0.0, 0.0))
    torch.testing.assert_close(
        -gradient(mse(step.logits), x), flow_velocity(x.detach(), TARGETS), rtol=SOLVED, atol=SOLVED
    )


@pytest.mark.parametrize("ridge", RIDGES)
def test_renormalized_step_depends_on_features_by_their_snr_matrix_alone(ridge: tuple[float, float]) -> None:
    """Invertible maps of centred features leave logits and penalty as they are, also where λ > 0."""
    h, generator = features().detach(), torch.Generator().manual_seed(3)
    h = h - h.mean(0)  # the mean is turned as well, and a bias with decay answers for it
    mixed = h @ torch.randn(P, P, generator=generator, dtype=torch.float64)
    one, other = (renormalized_step(f, LABELS, C, ridge) for f in (h, mixed))
    torch.testing.assert_close(one.logits, other.logits, rtol=SOLVED, atol=SOLVED)
    torch.testing.assert_close(one.penalty, other.penalty, rtol=SOLVED, atol=SOLVED)


def test_differentiating_through_the_renormalization_changes_nothing() -> None:
    """Why the step holds Σ_W fixed: with Σ_W^{-1/2} differentiated, here by eigenvectors, the gradient is that of
    L_LS(H), as the loss does not see invertible maps.
    """
    h = features()
    centred = h - torch.stack([h[c == LABELS].mean(0) for c in range(C)])[LABELS]
    variances, basis = torch.linalg.eigh(centred.T @ centred / n)
    whitened = h @ ((basis / variances.sqrt()) @ basis.T)
    through = gradient(mse(least_squares_step(whitened, LABELS, C, (0.0, 0.0)).logits), h)
    plain = gradient(mse(least_squares_step(h, LABELS, C, (0.0, 0.0)).logits), h)
    held = gradient(mse(renormalized_step(h, LABELS, C, (0.0, 0.0)).logits), h)
    torch.testing.assert_close(through, plain, rtol=1e-8, atol=1e-12)
    assert float((held - plain).norm() / plain.norm()) > 0.1


def test_renormalizer_is_the_symmetric_inverse_root_on_the_range() -> None:
    h = features().detach()
    statistics = class_statistics(h, LABELS, C)
    root = renormalizer(statistics)
    torch.testing.assert_close(root, root.T, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(
        root @ root @ statistics.within_class_covariance, torch.eye(P).double(), atol=SOLVED, rtol=0
    )
    dead = torch.cat([h, torch.ones(n, 2)], dim=1)
    expected = torch.nn.functional.pad(root, (0, 2, 0, 2))
    torch.testing.assert_close(renormalizer(class_statistics(dead, LABELS, C)), expected, atol=SOLVED, rtol=0)


@pytest.mark.parametrize("step", [least_squares_step, renormalized_step])
@pytest.mark.parametrize("scale", [1e160, 1e-160])
def test_step_refuses_features_whose_squares_float64_does_not_hold(step: Any, scale: float) -> None:
    with pytest.raises(ValueError, match="features: expected squares that float64 holds"):
        step(scale * features().detach(), LABELS, C, (0.0, 0.0))


def test_renormalized_step_refuses_class_means_outside_of_the_range() -> None:
    h = torch.cat([features().detach(), LABELS[:, None].double()], dim=1)
    with pytest.raises(ValueError, match="expected centred class means within the range"):
        renormalized_step(h, LABELS, C, (0.0, 0.0))
    with pytest.raises(ValueError, match="expected centred class means within the range"):
        renormalizer(class_statistics(h, LABELS, C))
