"""The fit of the time change: known time changes come back, order holds, and what is not the path shows as residual."""

import math

import pytest
import torch
from torch import Tensor

from ncexp.collapse.central_path import CentralPath
from ncexp.collapse.path_fit import PathFit, fit_time_change

CLASSES, PER_CLASS = 6, 30
RECOVERED = 1e-9  # of exact spectra; the fit solves for the time to rounding, and ω knows it to about 1e-12
INITIAL = torch.tensor([6.0, 2.5, 1.0, 0.4, 0.02], dtype=torch.float64)
EPOCHS = torch.arange(1, 41, dtype=torch.float64)
# Bursts and a pause: nothing that a parametric time change would describe. Spans the slow start and deep collapse.
TRUE_TIMES = torch.cat([torch.zeros(1), torch.logspace(0, 7, 29), torch.full((10,), 1e7)]).double()


def exact_spectra(times: Tensor = TRUE_TIMES) -> Tensor:
    return CentralPath(INITIAL, CLASSES, PER_CLASS).singular_values(times)


def fit(spectra: Tensor, start: int = 0) -> PathFit:
    return fit_time_change(EPOCHS[: len(spectra)], spectra, CLASSES, PER_CLASS, start)


def noisy(spectra: Tensor, size: float) -> Tensor:
    noise = torch.randn(spectra.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise[0] = 0
    return spectra * (size * noise).exp()


def test_fit_recovers_a_known_time_change() -> None:
    result = fit(exact_spectra())
    torch.testing.assert_close(result.times, TRUE_TIMES, rtol=RECOVERED, atol=0)
    torch.testing.assert_close(result.predicted, result.measured, rtol=RECOVERED, atol=0)
    assert result.rms < RECOVERED
    assert result.explained == pytest.approx(1, abs=RECOVERED)
    assert result.explained_spread == pytest.approx(1, abs=RECOVERED)
    assert len(result.excluded_epochs) == 0


def test_fit_counts_time_from_its_start_in_units_of_examples_per_class() -> None:
    result = fit_time_change(EPOCHS, exact_spectra(), CLASSES, 2 * PER_CLASS, 12)
    torch.testing.assert_close(result.times, 2 * (TRUE_TIMES[12:] - TRUE_TIMES[12]), rtol=RECOVERED, atol=RECOVERED)
    assert torch.equal(result.epochs, EPOCHS[12:])


def test_fit_under_noise_leaves_the_noise_as_residual() -> None:
    size = 0.01
    result = fit(noisy(exact_spectra(), size))
    # One fitted number per epoch takes at most one of K = 5 degrees of freedom.
    assert size * (4 / 5) ** 0.5 * 0.85 < result.rms < size * 1.15
    assert bool((result.times.diff() >= 0).all())
    assert result.times[0] == 0
    assert result.explained > 0.999
    # The start fits by construction and is left out.
    assert result.rms == pytest.approx(float(result.residuals[1:].square().mean().sqrt()))
    assert float(result.residuals[0].abs().max()) == 0


def dynamic_programme(spectra: Tensor, candidates: Tensor) -> float:
    """Least cost of a non-decreasing sequence of candidate times, by exhaustive dynamic programming."""
    options = CentralPath(INITIAL, CLASSES, PER_CLASS).singular_values(candidates).log()
    best = torch.zeros(len(candidates), dtype=torch.float64)
    for row in spectra[1:].log():
        best = best.cummin(dim=0).values + (options - row).square().sum(dim=1)
    return float(best.min())


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.03, 0.3])
def test_fit_is_the_best_monotone_one(size: float) -> None:
    # Slow progress under noise, so that most neighbours are out of order and must be pooled.
    times = torch.linspace(0, 400, 40, dtype=torch.float64)
    spectra = noisy(exact_spectra(times), size)
    result = fit(spectra)
    assert bool((result.times.diff() == 0).any())
    assert bool((result.times.diff() >= 0).all())
    cost = float(result.residuals.square().sum())
    grid = torch.cat([torch.zeros(1), torch.logspace(-2, 6, 20000)]).double()
    assert cost <= dynamic_programme(spectra, grid) * (1 + RECOVERED)


def test_fit_times_are_stationary_where_epochs_are_in_order() -> None:
    result = fit(noisy(exact_spectra(TRUE_TIMES[:30]), 0.01))
    alone = (result.times.diff()[:-1] > 0) & (result.times.diff()[1:] > 0)
    residuals, omega = result.residuals[1:-1][alone], result.predicted[1:-1][alone]
    terms = residuals / (CLASSES + omega.square()).square()  # r_j · d log ω_j/dτ, but for 1/N
    assert len(terms) > 15
    assert float((terms.sum(dim=1) / terms.abs().sum(dim=1)).abs().max()) < RECOVERED


def test_fit_takes_the_better_of_two_basins() -> None:
    # One mode shrinks beyond all theory: τ = 0 and a later τ are local minima, and bisection alone takes the worse.
    start, growth = torch.tensor([1.5, 1e-6]).double(), torch.tensor([-40.0, 8.0]).double()
    result = fit_time_change(EPOCHS[:2], torch.stack([start, start * growth.exp()]), 3, 1, 0)
    every_time = torch.cat([torch.zeros(1), torch.logspace(-3, 6, 20000)]).double()
    path = CentralPath(start, 3, 1).singular_values(every_time)
    least = ((path / start).log() - growth).square().sum(dim=1).min()
    assert float(result.residuals.square().sum()) <= float(least) * (1 + RECOVERED)


def test_fit_shows_a_mode_that_leaves_the_path() -> None:
    spectra = exact_spectra()
    spectra[:, 2] *= torch.linspace(0, 0.5, 40, dtype=torch.float64).exp()
    result = fit(spectra)
    assert int(result.mode_rms.argmax()) == 2
    assert float(result.mode_rms[2]) > 0.1
    # The mode's excess grows to 0.5; four modes hold the path, the fit shares out at most a fifth of it.
    assert 0.35 < float(result.residuals[-1, 2]) <= 0.5


def test_fit_says_how_much_is_explained_of_runs_that_are_none() -> None:
    shrinking = fit(INITIAL * torch.tensor([1.0, 0.9, 0.8], dtype=torch.float64)[:, None])
    assert torch.equal(shrinking.times, torch.zeros(3, dtype=torch.float64))
    assert shrinking.explained == pytest.approx(0, abs=RECOVERED)
    standing = fit(INITIAL.repeat(3, 1))
    assert math.isnan(standing.explained)
    assert standing.rms == 0
    # All modes grow nearly alike, which the path never does: small modes must overtake.
    growth = torch.linspace(0, 3, 20, dtype=torch.float64)[:, None] * torch.linspace(1.0, 1.1, 5, dtype=torch.float64)
    common = fit(INITIAL * growth.exp())
    assert common.explained_spread < 0
    assert common.rms > 0.1
    one_mode = fit_time_change(EPOCHS, exact_spectra()[:, :1], CLASSES, PER_CLASS, 0)
    assert one_mode.explained == pytest.approx(1, abs=RECOVERED)
    assert math.isnan(one_mode.explained_spread)
    assert one_mode.conserved_differences.shape == (40, 0)


def test_fit_excludes_undefined_epochs_and_lists_them() -> None:
    spectra = exact_spectra()
    spectra[5] = torch.nan
    spectra[9, 3] = 0
    spectra[11, 0] = torch.inf
    result = fit(spectra)
    assert result.excluded_epochs.tolist() == [6, 10, 12]
    kept = [i for i in range(40) if i not in (5, 9, 11)]
    assert torch.equal(result.epochs, EPOCHS[kept])
    torch.testing.assert_close(result.times, TRUE_TIMES[kept], rtol=RECOVERED, atol=0)


def undefined_rows(*rows: int) -> Tensor:
    spectra = exact_spectra()
    spectra[list(rows)] = torch.nan
    return spectra


@pytest.mark.parametrize(
    ("epochs", "spectra", "start", "message"),
    [
        (EPOCHS[:3], exact_spectra(), 0, r"spectra: expected shape \(E, K\) for epochs \(E,\)"),
        (EPOCHS, exact_spectra()[:, 0], 0, r"spectra: expected shape \(E, K\)"),
        (EPOCHS.flip(0), exact_spectra(), 0, "epochs: expected strictly ascending"),
        (EPOCHS, exact_spectra(), 40, r"start: expected an index within 0\.\.39, got 40"),
        (EPOCHS, exact_spectra(), -1, "start: expected an index within"),
        (EPOCHS, undefined_rows(4), 4, "spectra: expected a defined spectrum of positive ω at the start"),
        (EPOCHS, undefined_rows(38, 39), 37, "spectra: expected a defined spectrum after the start, got none in 2"),
        (EPOCHS, exact_spectra(), 39, "spectra: expected a defined spectrum after the start, got none in 0"),
    ],
)
def test_fit_refuses(epochs: Tensor, spectra: Tensor, start: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_time_change(epochs, spectra, CLASSES, PER_CLASS, start)
