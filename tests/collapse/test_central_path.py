"""The closed form of the central path against fifty-digit arithmetic, an ODE solver and brute-force least squares."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor

from ncexp.collapse.central_path import (
    CentralPath,
    central_path_losses,
    conserved_differences,
    elapsed_for_growth,
    log_growth,
)
from ncexp.collapse.class_statistics import class_statistics
from ncexp.collapse.snr_spectrum import snr_singular_values

SOLVED = 1e-12  # what the closed form promises, relative in ω
ROUNDING = 1e-13  # a few hundred units in the last place
CLASSES, PER_CLASS = 5, 7


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def fifty_digit_omega(initial: float, time: float, num_classes: int, per_class: int) -> float:
    """ω(t) by bisection on c1 log ω + c2 ω² + c3 ω⁴ in 50-digit arithmetic, from the printed equation."""
    with mpmath.workdps(50):
        c1, c2, c3 = per_class * num_classes**2, per_class * num_classes, mpmath.mpf(per_class) / 4

        def left(log_omega: mpmath.mpf) -> mpmath.mpf:
            return c1 * log_omega + c2 * mpmath.exp(2 * log_omega) + c3 * mpmath.exp(4 * log_omega)

        start = mpmath.log(mpmath.mpf(initial))
        target = left(start) + mpmath.mpf(time)
        low, high = start, start + 1 + mpmath.mpf(time) / c1
        high = min(high, max(start, mpmath.log(mpmath.mpf(time) / c3 + 1) / 4 + 1) + 1)
        for _ in range(180):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) < target else (low, middle)
        return float(mpmath.exp(low))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    exponent=st.floats(-8, 8),
    time_exponent=st.floats(-30, 300),
    num_classes=st.integers(2, 1000),
    per_class=st.integers(1, 6000),
)
def test_singular_values_match_fifty_digits(exponent, time_exponent, num_classes, per_class) -> None:
    initial, time = 10.0**exponent, 10.0**time_exponent
    value = CentralPath(tensor(initial), num_classes, per_class).singular_values(tensor(time))
    assert float(value) == pytest.approx(fifty_digit_omega(initial, time, num_classes, per_class), rel=SOLVED)


def test_log_growth_keeps_relative_precision_near_the_start() -> None:
    # To first order u = (t/N)/(C + ω²)²; at t = 1e-40 there is nothing else.
    initial = torch.logspace(-8, 8, 33, dtype=torch.float64)
    growth = log_growth(initial, tensor(1e-40), CLASSES)
    torch.testing.assert_close(growth, 1e-40 / (CLASSES + initial.square()).square(), rtol=ROUNDING, atol=0)


def test_singular_values_follow_the_mode_equation_of_motion() -> None:
    initial, times = tensor(0.02, 0.9, 4.0), torch.linspace(0, 5000, 11, dtype=torch.float64)

    def velocity(_: float, omega: np.ndarray) -> np.ndarray:
        return omega / (CLASSES + omega**2) ** 2 / PER_CLASS

    solution = solve_ivp(velocity, (0, 5000), initial, t_eval=times.numpy(), rtol=1e-12, atol=1e-14, method="DOP853")
    values = CentralPath(initial, CLASSES, PER_CLASS).singular_values(times)
    integrator = 1e-9  # accumulated over the interval at rtol 1e-12
    torch.testing.assert_close(values, torch.from_numpy(solution.y.T.copy()), rtol=integrator, atol=0)


def test_singular_values_at_time_zero_are_the_initial_ones_bit_for_bit() -> None:
    initial = torch.logspace(-8, 8, 17, dtype=torch.float64)
    assert torch.equal(CentralPath(initial, 100, 3).singular_values(tensor(0.0))[0], initial)


def test_singular_values_zero_mode_is_a_saddle_and_stays() -> None:
    values = CentralPath(tensor(1.0, 0.0), CLASSES, PER_CLASS).singular_values(tensor(0.0, 1.0, 1e300))
    assert torch.equal(values[:, 1], torch.zeros(3, dtype=torch.float64))
    assert bool((values[1:, 0] > 1).all())


def test_singular_values_approach_the_asymptote_and_each_other() -> None:
    path, late = CentralPath(tensor(5.0, 1e-8), CLASSES, PER_CLASS), tensor(1e20)
    torch.testing.assert_close(
        path.singular_values(late), path.asymptote(late)[:, None].expand(1, 2), rtol=1e-8, atol=0
    )
    ratios = path.singular_values(torch.logspace(0, 9, 31, dtype=torch.float64))
    ratios = ratios[:, 0] / ratios[:, 1]
    assert bool((ratios.diff() < 0).all())
    assert float(ratios[-1]) == pytest.approx(1, abs=1e-3)  # they close in as (log t)/t


def test_losses_match_least_squares_on_random_balanced_features() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat(40)
    means = 2 * torch.randn(CLASSES, 9, generator=generator, dtype=torch.float64)
    features = means[labels] + torch.randn(len(labels), 9, generator=generator, dtype=torch.float64)
    targets = torch.eye(CLASSES, dtype=torch.float64)[labels]
    extended = torch.cat([features, torch.ones(len(labels), 1, dtype=torch.float64)], dim=1)
    logits = extended @ torch.linalg.lstsq(extended, targets).solution
    class_logits = torch.stack([logits[labels == c].mean(dim=0) for c in range(CLASSES)])
    expected = (
        (logits - targets).square().sum(dim=1).mean() / 2,
        (logits - class_logits[labels]).square().sum(dim=1).mean() / 2,
        (class_logits - torch.eye(CLASSES)).square().sum(dim=1).mean() / 2,
    )
    spectrum = snr_singular_values(class_statistics(features, labels, CLASSES))
    torch.testing.assert_close(central_path_losses(spectrum, CLASSES), expected, rtol=ROUNDING, atol=0)


def test_losses_count_the_modes_that_too_few_features_leave_out() -> None:
    spectrum = tensor(3.0, 1.0)
    padded = central_path_losses(torch.cat([spectrum, tensor(0.0, 0.0)]), CLASSES)
    torch.testing.assert_close(central_path_losses(spectrum, CLASSES), padded, rtol=ROUNDING, atol=0)


def test_path_losses_are_those_of_its_spectrum_and_fall() -> None:
    path, times = CentralPath(tensor(0.1, 2.0, 3.0), CLASSES, PER_CLASS), torch.logspace(0, 8, 50, dtype=torch.float64)
    expected = central_path_losses(path.singular_values(times), CLASSES)
    assert all(map(torch.equal, (path.loss(times), path.loss_nc1(times), path.loss_nc23(times)), expected))
    assert bool((path.loss(times).diff() < 0).all())


def test_nc1_dominates_mode_by_mode_as_omega_squared_over_classes() -> None:
    _, nc1, nc23 = central_path_losses(tensor(7.0, 7.0, 7.0, 7.0), CLASSES)
    assert float(nc1 / nc23) == pytest.approx(49 / CLASSES, rel=ROUNDING)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(time_exponent=st.floats(-1, 12), exponents=st.lists(st.floats(-4, 4), min_size=1, max_size=CLASSES - 1))
def test_time_of_level_returns_the_time_of_that_level(time_exponent, exponents) -> None:
    path = CentralPath(10 ** tensor(*exponents), CLASSES, PER_CLASS)
    time = tensor(10.0**time_exponent)
    for measure, time_of in ((path.nc1_snr, path.time_of_nc1_snr), (path.loss, path.time_of_loss)):
        level = float(measure(time))
        found = tensor(time_of(level))
        # The level is known to rounding only, so compare levels: t itself may be ill determined by it.
        assert float(measure(found)) == pytest.approx(level, rel=SOLVED)


def test_time_of_level_one_mode_is_the_printed_equation() -> None:
    # One mode from ω = 1 to ω = 10, C = 5, N = 7: t = N [C² log 10 + C (100 − 1) + (10⁴ − 1)/4].
    path = CentralPath(tensor(1.0), CLASSES, PER_CLASS)
    expected = PER_CLASS * (CLASSES**2 * np.log(10) + CLASSES * 99 + 9999 / 4)
    assert path.time_of_nc1_snr(0.01) == pytest.approx(expected, rel=SOLVED)
    idle = 3 / (2 * CLASSES)
    assert path.time_of_loss(idle + 0.5 / (CLASSES + 100)) == pytest.approx(expected, rel=SOLVED)
    assert path.time_of_nc1_snr(1.0) == 0


@pytest.mark.parametrize("level", [2.1, 0.0, -1.0, float("nan")])
def test_time_of_nc1_snr_refuses_what_the_path_never_shows(level: float) -> None:
    with pytest.raises(ValueError, match="level: expected above 0"):
        CentralPath(tensor(1.0, 1.0), CLASSES, PER_CLASS).time_of_nc1_snr(level)


def test_time_of_level_refuses_below_what_saddle_modes_allow() -> None:
    path = CentralPath(tensor(1.0, 0.0), CLASSES, PER_CLASS)
    with pytest.raises(ValueError, match=r"level: expected above 0.3 and at most"):
        path.time_of_loss(0.3)  # two modes absent and one at 0: 3/(2·5)
    assert path.time_of_loss(0.3 + 1e-6) > 0
    with pytest.raises(ValueError, match="level: expected above inf"):
        path.time_of_nc1_snr(1.0)


def test_time_of_level_refuses_beyond_float64() -> None:
    with pytest.raises(ValueError, match="level: expected one reached at a time that float64 can hold"):
        CentralPath(tensor(1.0), CLASSES, PER_CLASS).time_of_nc1_snr(1e-200)


def test_conserved_differences_stay_along_the_path() -> None:
    times = torch.logspace(-3, 6, 30, dtype=torch.float64)
    values = CentralPath(tensor(9.0, 1.5, 0.01), CLASSES, PER_CLASS).singular_values(times)
    start = conserved_differences(tensor(9.0, 1.5, 0.01), CLASSES)
    differences = conserved_differences(values, CLASSES)
    assert differences.shape == (30, 2)
    # F grows to t/N = 1e6/7, whose rounding is what can be asked for.
    torch.testing.assert_close(differences, start.expand(30, 2), rtol=0, atol=1e6 * ROUNDING)


def test_conserved_differences_are_those_of_the_potential() -> None:
    values = tensor(3.0, 2.0, 0.5)
    potential = CLASSES**2 * values.log() + CLASSES * values**2 + values**4 / 4
    expected = potential[0] - potential[1:]
    torch.testing.assert_close(conserved_differences(values, CLASSES), expected, rtol=ROUNDING, atol=0)


def test_conserved_differences_do_not_cancel() -> None:
    # ω ~ 1e4, relative gap 1e-12: F ~ 1e15 each, difference ~ ω⁴ · 1e-12 exactly.
    omega = 1e4
    near = omega * (1 - 2.0**-40)
    difference = float(conserved_differences(tensor(omega, near), CLASSES))
    assert difference == pytest.approx(2.0**-40 * (CLASSES + omega**2) ** 2, rel=1e-6)


@pytest.mark.parametrize("initial", [1e-60, 1e-40, 1e-9, 1.0, 1e18])
@pytest.mark.parametrize("final", [1e-59, 1e-9, 1.0, 1e18, 1e60])
def test_elapsed_for_growth_matches_fifty_digits_between_any_two_sizes(initial: float, final: float) -> None:
    with mpmath.workdps(250):
        start, growth = mpmath.mpf(initial), mpmath.mpf(float(np.log(final) - np.log(initial)))
        end = start * mpmath.exp(growth)
        expected = CLASSES**2 * growth + CLASSES * (end**2 - start**2) + (end**4 - start**4) / 4
    measured = float(elapsed_for_growth(tensor(initial), tensor(float(growth)), CLASSES))
    # e^{4u} with u up to 300 of 16 digits: the growth's own last digit
    assert measured == pytest.approx(float(expected), rel=4 * 300 * 2**-52 + ROUNDING)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((tensor(1.0), 1, 5), "num_classes: expected at least 2"),
        ((tensor(1.0), 3, 0), "examples_per_class: expected at least 1"),
        ((tensor(1.0, 1.0, 1.0), 3, 5), r"initial_singular_values: expected shape \(K,\) with 1 <= K <= 2"),
        ((tensor(), 3, 5), r"initial_singular_values: expected shape"),
        ((tensor(1.0)[None], 3, 5), r"initial_singular_values: expected shape"),
        ((tensor(-1.0), 3, 5), "initial_singular_values: expected each 0 or within"),
        ((tensor(float("nan")), 3, 5), "initial_singular_values: expected each 0 or within"),
        ((tensor(1e61), 3, 5), "initial_singular_values: expected each 0 or within"),
    ],
)
def test_central_path_refuses(arguments: tuple[Tensor, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CentralPath(*arguments)


@pytest.mark.parametrize("times", [tensor(-1.0), tensor(float("inf")), tensor(float("nan")), tensor(1.0)[None]])
def test_central_path_refuses_times(times: Tensor) -> None:
    path = CentralPath(tensor(1.0), CLASSES, PER_CLASS)
    for method in (path.singular_values, path.asymptote):
        with pytest.raises(ValueError, match="times: expected"):
            method(times)


def test_losses_refuse_more_modes_than_classes_allow() -> None:
    with pytest.raises(ValueError, match="singular_values: expected at most 1 modes for 2 classes, got 2"):
        central_path_losses(tensor(1.0, 1.0), 2)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf")])
def test_conserved_differences_refuse_a_mode_without_potential(value: float) -> None:
    with pytest.raises(ValueError, match="singular_values: expected positive finite"):
        conserved_differences(tensor(1.0, value), CLASSES)
