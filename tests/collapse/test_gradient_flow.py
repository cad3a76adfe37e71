"""The simulated flows: their fields by autograd, what they conserve, and the closed forms over decades of ω.

That a training in small steps tends to them, and that they end in collapse, is held by tests/simulations.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ncexp.collapse import CentralPath, LinearClassifier, class_statistics, renormalized_gradient_flow
from ncexp.collapse import gradient_flow as flows
from ncexp.collapse.on_path import renormalized_step
from ncexp.collapse.snr_spectrum import snr_singular_values

CLASSES, PER_CLASS, WIDTH = 4, 10, 6
n = CLASSES * PER_CLASS
LABELS = torch.arange(CLASSES).repeat(PER_CLASS)
TARGETS = torch.eye(CLASSES, dtype=torch.float64)[LABELS]
AGREEMENT = 1e-6  # closed form against simulation
HELD = 1e-8  # Σ_W = I along the flow
INTEGRATED = 1e-7  # of the integrator, whose steps are good to 1e-10, over a whole trajectory
ROUNDING = 1e-12
TIMES = torch.cat([torch.zeros(1), torch.logspace(-1, 6, 15)]).double()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features_of(width: int = WIDTH) -> Tensor:
    """Overlapping classes with correlated, unequally scaled features: nothing collapsed or white about them."""
    return (0.5 * drawn(CLASSES, width)[LABELS] + drawn(n, width, seed=1)) @ drawn(width, width, seed=2) + 3


def least_squares_loss(features: Tensor) -> Tensor:
    """min over (W, b) of ½ Ave ‖W x + b − y‖², differentiable in x."""
    extended = torch.cat([features, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.solve(extended.T @ extended, extended.T @ TARGETS)
    return (extended @ solution - TARGETS).square().sum(dim=1).mean() / 2


def deviations(rows: Tensor) -> Tensor:
    return rows - TARGETS @ (TARGETS.T @ rows) / PER_CLASS


def centred_means(features: Tensor) -> Tensor:
    return class_statistics(features, LABELS, CLASSES).centered_class_means


def spectrum_of(features: Tensor) -> Tensor:
    return snr_singular_values(class_statistics(features, LABELS, CLASSES))


def closed_form(spectrum: Tensor, times: Tensor) -> Tensor:
    return CentralPath(spectrum, CLASSES, PER_CLASS).singular_values(times)


@pytest.fixture(scope="module")
def trajectory():
    return renormalized_gradient_flow(features_of(), LABELS, CLASSES, TIMES)


def test_renormalize_whitens_and_keeps_the_loss() -> None:
    whitened = flows.renormalize(features_of(), LABELS, CLASSES)
    covariance = class_statistics(whitened, LABELS, CLASSES).within_class_covariance
    torch.testing.assert_close(covariance, torch.eye(WIDTH, dtype=torch.float64), rtol=0, atol=ROUNDING)
    assert float(least_squares_loss(whitened)) == pytest.approx(float(least_squares_loss(features_of())), rel=1e-10)


def test_flow_velocity_is_the_projected_autograd_gradient() -> None:
    # The field by autograd through the least-squares solution, and the projection as theory writes it on Σ_W = I.
    start = flows.renormalize(features_of(), LABELS, CLASSES).requires_grad_()
    (gradient,) = torch.autograd.grad(least_squares_loss(start), start)
    d, z = deviations(start.detach()), deviations(-gradient)
    expected = -gradient - d @ (d.T @ z + z.T @ d) / (2 * n)
    torch.testing.assert_close(flows.flow_velocity(start.detach(), TARGETS), expected, rtol=1e-9, atol=1e-14)


def test_flow_velocity_keeps_any_within_class_covariance() -> None:
    features = features_of()
    d, z = deviations(features), deviations(flows.flow_velocity(features, TARGETS))
    # Cancels to zero from terms of this size.
    size = float((d.T @ d).abs().max() * least_squares_loss(features))
    assert float((d.T @ z + z.T @ d).abs().max()) < ROUNDING * size


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 3, WIDTH])
def test_flow_matches_the_closed_form(width: int) -> None:
    flow = renormalized_gradient_flow(features_of(width), LABELS, CLASSES, TIMES)
    exact = closed_form(flow.singular_values[0], TIMES)
    torch.testing.assert_close(flow.singular_values, exact, rtol=AGREEMENT, atol=0)
    assert float(flow.singular_values[-1, 0]) > 10 * float(flow.singular_values[0, 0])


@pytest.mark.parametrize(("size", "digits"), [(1e-3, 1e-7), (1e-6, 1e-4), (1e-9, 1e-2)])
def test_flow_of_small_modes_holds_the_digits_that_its_tolerance_states(size: float, digits: float) -> None:
    means = centred_means(features_of())
    means = means / torch.linalg.matrix_norm(means, 2)
    start = flows.renormalize(deviations(features_of()) + 3 * means[LABELS], LABELS, CLASSES)
    times = torch.tensor([0.0, 100.0, 1000.0], dtype=torch.float64)
    flow = renormalized_gradient_flow(deviations(start) + size * means[LABELS], LABELS, CLASSES, times)
    exact = closed_form(flow.singular_values[0], times)
    torch.testing.assert_close(flow.singular_values, exact, rtol=digits, atol=0)


def test_flow_turns_no_vector_and_leaves_deviations_and_mean_alone(trajectory) -> None:
    assert float(trajectory.constraint_error.max()) < HELD
    start, *others = (torch.linalg.svd(centred_means(x), full_matrices=False) for x in trajectory.snapshots)
    for left, _, right in others[:8]:  # later the ω's are nearly equal and single vectors are no longer determined
        modes = slice(0, CLASSES - 1)
        for now, then in ((left[:, modes].T, start[0][:, modes].T), (right[modes], start[2][modes])):
            cosines = (now * then).sum(dim=1).abs()
            torch.testing.assert_close(cosines, torch.ones(3, dtype=torch.float64), rtol=0, atol=AGREEMENT)
    first, last = trajectory.snapshots[0], trajectory.features
    torch.testing.assert_close(deviations(last), deviations(first), rtol=0, atol=HELD)
    torch.testing.assert_close(last.mean(dim=0), first.mean(dim=0), rtol=0, atol=HELD)


def test_flow_accepts_float32_features_and_answers_float64(trajectory) -> None:
    flow = renormalized_gradient_flow(features_of().float(), LABELS, CLASSES, TIMES[:3])
    assert flow.features.dtype == flow.singular_values.dtype == flow.times.dtype == torch.float64
    torch.testing.assert_close(flow.singular_values, trajectory.singular_values[:3], rtol=1e-5, atol=0)


def beside(unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.cat([features_of(), unit], dim=1), LABELS, TIMES


FULL_RANK = "full rank 7, got rank 6"
REFUSED = [
    ((features_of()[1:], LABELS[1:], TIMES), "labels: expected the same number of examples in each class, got"),
    (beside(torch.zeros(n, 1)), FULL_RANK),
    (beside(features_of()[:, :1]), FULL_RANK),
    (beside(LABELS[:, None].double()), FULL_RANK),
    *(
        ((features_of(), LABELS, torch.tensor(times)), r"times: expected shape \(T,\), strictly ascending")
        for times in ([], [0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, float("inf")], [[1.0, 2.0]])
    ),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_flow_refuses(given: tuple[Tensor, Tensor, Tensor], message: str) -> None:
    features, labels, times = given
    with pytest.raises(ValueError, match=message):
        renormalized_gradient_flow(features, labels, CLASSES, times)


def descent(_: float, state: np.ndarray) -> np.ndarray:
    """Minus the gradient that a step of regime=renormalized takes."""
    features = torch.as_tensor(state).reshape(n, WIDTH).requires_grad_()
    logits = renormalized_step(features, LABELS, CLASSES, (0.0, 0.0)).logits
    (gradient,) = torch.autograd.grad((logits - TARGETS).square().sum() / (2 * n), features)
    return -gradient.flatten().numpy()


@pytest.mark.slow
def test_renormalized_steps_are_the_closed_form_over_four_decades() -> None:
    """DOP853 from ω = 0.005 to beyond 100, against c1 log ω + c2 ω² + c3 ω⁴ = a + t."""
    wanted = torch.tensor([0.02, 0.01, 0.005], dtype=torch.float64)
    noise = flows.renormalize(drawn(n, WIDTH), LABELS, CLASSES)
    left, _, right = torch.linalg.svd(centred_means(noise), full_matrices=False)
    start = deviations(noise) + (left[:, :3] * wanted)[LABELS] @ right[:3]
    times = torch.cat([torch.zeros(1), torch.logspace(1, 8.8, 12)]).double()
    options = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-12, "t_eval": times.numpy()}
    solution = solve_ivp(descent, (0.0, float(times[-1])), start.flatten().numpy(), **options)
    spectra = torch.stack([spectrum_of(torch.as_tensor(y).reshape(n, WIDTH)) for y in solution.y.T])
    torch.testing.assert_close(spectra[0], wanted, rtol=1e-10, atol=0)
    assert float(spectra[-1].min() / spectra[0].min()) > 1e4
    torch.testing.assert_close(spectra, closed_form(wanted, times), rtol=AGREEMENT, atol=0)


# Without renormalization


def mse(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (features @ weight.T + bias - TARGETS).square().sum() / (2 * n)


def test_plain_flow_conserves_the_balance_and_descends_by_its_gradient() -> None:
    """WᵀW − HᵀH is constant; dL/dt = −‖∇L‖², over a time so short that the rate changes by 1e-3 of itself at most."""
    times = torch.tensor([0.0, 1e-4, 240.0], dtype=torch.float64)
    layer = LinearClassifier(drawn(CLASSES, WIDTH, seed=1), drawn(CLASSES, seed=2))
    plain = flows.plain_gradient_flow(drawn(n, WIDTH), layer, LABELS, times)
    balances = [layer.weight.T @ layer.weight - h.T @ h for h, layer in plain]
    assert float((plain[-1][0] - plain[0][0]).abs().max()) > 0.1  # it has moved
    torch.testing.assert_close(balances[-1], balances[0], rtol=0, atol=n * INTEGRATED)  # sums of n squares
    losses = [float(mse(h, w.weight, w.bias)) for h, w in plain]
    leaves = [tensor.clone().requires_grad_() for tensor in (plain[0][0], layer.weight, layer.bias)]
    squared = sum(float(one.square().sum()) for one in torch.autograd.grad(mse(*leaves), leaves))
    assert (losses[0] - losses[1]) / 1e-4 == pytest.approx(squared, rel=1e-3)
    with pytest.raises(ValueError, match="classifier: expected one with bias, got none"):
        flows.plain_gradient_flow(drawn(n, WIDTH), LinearClassifier(layer.weight), LABELS, times)


def test_flow_on_the_path_grows_every_mode_by_its_own_exponential_law() -> None:
    times = torch.tensor([0.0, 20.0, 80.0, 240.0], dtype=torch.float64)
    flow = flows.on_path_gradient_flow(
        drawn(n, WIDTH) + TARGETS @ drawn(CLASSES, WIDTH, seed=3), LABELS, CLASSES, times
    )
    spectra = [spectrum_of(h) for h, _ in flow]
    for time, spectrum in zip(times, spectra, strict=True):
        grown = (spectra[0] * (time / (n * (CLASSES + spectra[0].square()))).exp()).sort(descending=True).values
        torch.testing.assert_close(spectrum, grown, rtol=INTEGRATED, atol=0)
