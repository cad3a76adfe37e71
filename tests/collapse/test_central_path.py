"""The closed form of the central path against fifty-digit arithmetic and the printed equations."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncexp.collapse.central_path import (
    CentralPath,
    central_path_losses,
    conserved_differences,
    elapsed_for_growth,
    log_growth,
)

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


def test_singular_values_begin_bit_for_bit_and_a_zero_mode_stays() -> None:
    initial = torch.logspace(-8, 8, 17, dtype=torch.float64)
    assert torch.equal(CentralPath(initial, 100, 3).singular_values(tensor(0.0))[0], initial)
    values = CentralPath(tensor(1.0, 0.0), CLASSES, PER_CLASS).singular_values(tensor(0.0, 1.0, 1e300))
    assert torch.equal(values[:, 1], torch.zeros(3, dtype=torch.float64))
    assert bool((values[1:, 0] > 1).all())


def test_singular_values_approach_the_asymptote_and_each_other() -> None:
    path, late = CentralPath(tensor(5.0, 1e-8), CLASSES, PER_CLASS), tensor(1e20)
    asymptote = path.asymptote(late)[:, None].expand(1, 2)
    torch.testing.assert_close(path.singular_values(late), asymptote, rtol=1e-8, atol=0)
    ratios = path.singular_values(torch.logspace(0, 9, 31, dtype=torch.float64))
    ratios = ratios[:, 0] / ratios[:, 1]
    assert bool((ratios.diff() < 0).all())
    assert float(ratios[-1]) == pytest.approx(1, abs=1e-3)  # they close in as (log t)/t


def test_path_losses_are_those_of_its_spectrum_and_fall() -> None:
    path, times = CentralPath(tensor(0.1, 2.0, 3.0), CLASSES, PER_CLASS), torch.logspace(0, 8, 50, dtype=torch.float64)
    spectra, found = path.singular_values(times), (path.loss(times), path.loss_nc1(times), path.loss_nc23(times))
    assert all(map(torch.equal, found, central_path_losses(spectra, CLASSES)))
    assert bool((path.loss(times).diff() < 0).all())
    padded = torch.cat([spectra, torch.zeros(50, 1)], dim=1)  # a mode that is not given is one at 0
    torch.testing.assert_close(found, central_path_losses(padded, CLASSES), rtol=ROUNDING, atol=0)


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


@pytest.mark.parametrize(
    ("initial", "time_of", "level", "message"),
    [
        *(([1.0, 1.0], "time_of_nc1_snr", level, "above 0") for level in (2.1, 0.0, -1.0, float("nan"))),
        ([1.0, 0.0], "time_of_loss", 0.3, "above 0.3 and at most"),  # two modes absent and one at 0: 3/(2·5)
        ([1.0, 0.0], "time_of_nc1_snr", 1.0, "above inf"),
        ([1.0], "time_of_nc1_snr", 1e-200, "one reached at a time that float64 can hold"),
    ],
)
def test_time_of_level_refuses_what_the_path_never_shows(initial, time_of, level, message) -> None:
    path = CentralPath(tensor(*initial), CLASSES, PER_CLASS)
    with pytest.raises(ValueError, match=f"level: expected {message}"):
        getattr(path, time_of)(level)


def test_conserved_differences_are_of_the_potential_all_along_the_path() -> None:
    times, initial = torch.logspace(-3, 6, 30, dtype=torch.float64), tensor(9.0, 1.5, 0.01)
    potential = CLASSES**2 * initial.log() + CLASSES * initial**2 + initial**4 / 4
    differences = conserved_differences(CentralPath(initial, CLASSES, PER_CLASS).singular_values(times), CLASSES)
    assert differences.shape == (30, 2)
    # F grows to t/N = 1e6/7, whose rounding is what can be asked for.
    expected = (potential[0] - potential[1:]).expand(30, 2)
    torch.testing.assert_close(differences, expected, rtol=0, atol=1e6 * ROUNDING)
    # They do not cancel: ω ~ 1e4, relative gap 1e-12, F ~ 1e15 each, difference ~ ω⁴ · 1e-12 exactly.
    difference = float(conserved_differences(tensor(1e4, 1e4 * (1 - 2.0**-40)), CLASSES))
    assert difference == pytest.approx(2.0**-40 * (CLASSES + 1e8) ** 2, rel=1e-6)


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


def path() -> CentralPath:
    return CentralPath(tensor(1.0), CLASSES, PER_CLASS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CentralPath(tensor(1.0), 1, 5), "num_classes: expected at least 2"),
        (lambda: CentralPath(tensor(1.0), 3, 0), "examples_per_class: expected at least 1"),
        *(
            (
                lambda modes=modes: CentralPath(modes, 3, 5),
                r"initial_singular_values: expected shape \(K,\) with 1 <= K",
            )
            for modes in (tensor(1.0, 1.0, 1.0), tensor(), tensor(1.0)[None])
        ),
        *(
            (lambda size=size: CentralPath(tensor(size), 3, 5), "initial_singular_values: expected each 0 or within")
            for size in (-1.0, float("nan"), 1e61)
        ),
        *(
            (lambda times=times, law=law: getattr(path(), law)(times), "times: expected")
            for times in (tensor(-1.0), tensor(float("inf")), tensor(float("nan")), tensor(1.0)[None])
            for law in ("singular_values", "asymptote")
        ),
        (lambda: central_path_losses(tensor(1.0, 1.0), 2), "singular_values: expected at most 1 modes for 2 classes"),
        *(
            (lambda value=value: conserved_differences(tensor(1.0, value), 5), "singular_values: expected positive")
            for value in (0.0, -1.0, float("inf"))
        ),
    ],
)
def test_central_path_refuses(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
