"""The SNR spectrum against fifty digits on the statistics as they are, and where it must be undefined."""

import mpmath
import pytest
import torch
from torch import Tensor

from ncexp.collapse import ClassStatistics, class_statistics, snr_singular_values, snr_spectrum

EXACT = 1e-12  # well-conditioned cases: rounding of a few hundred operations
MEASURED = 1e-9  # what the spectrum promises at the condition numbers that trained networks show
CLASSES = 4


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_features(num_features: int, per_class: int = 50, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    means, noise = 3 * gaussian(CLASSES, num_features, seed=0), gaussian(len(labels), num_features, seed=1)
    return means[labels] + spread * noise, labels


def statistics_of(features: Tensor, labels: Tensor) -> ClassStatistics:
    return class_statistics(features, labels, CLASSES)


def fifty_digits(statistics: ClassStatistics) -> list[float]:
    """ω as roots of the eigenvalues of M̄ᵀ Σ_W^{-1} M̄; classes of equal size."""
    with mpmath.workdps(50):
        rows = mpmath.matrix(statistics.class_means.tolist())
        for place in range(rows.cols):
            center = mpmath.fsum(rows[c, place] for c in range(CLASSES)) / CLASSES
            for c in range(CLASSES):
                rows[c, place] -= center
        inverse = mpmath.inverse(mpmath.matrix(statistics.within_class_covariance.tolist()))
        squares = sorted(mpmath.eigsy(rows * inverse * rows.T, eigvals_only=True), reverse=True)
        return [float(mpmath.sqrt(square)) for square in squares[: CLASSES - 1]]


@pytest.mark.parametrize("collapse", [1.0, 1e-5])
@pytest.mark.parametrize("spread", [0, 4])
def test_snr_singular_values_match_fifty_digits(collapse: float, spread: int) -> None:
    features, labels = gaussian_features(6, per_class=12, spread=collapse)
    # The correlation's condition number is about 4e5; the class means are mixed as well.
    mix = 0.01 * torch.eye(6, dtype=torch.float64) + 1
    statistics = statistics_of(features @ mix * torch.logspace(-spread, spread, 6, dtype=torch.float64), labels)
    values = snr_singular_values(statistics)
    assert values.dtype == torch.float64
    assert values.tolist() == pytest.approx(fifty_digits(statistics), rel=MEASURED)


@pytest.mark.parametrize("width", [3, 6])
@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 2e-6])
def test_snr_spectrum_of_near_copies_says_how_many_digits_hold(size: float, width: int) -> None:
    features, labels = gaussian_features(width, per_class=20)
    statistics = statistics_of(torch.cat([features, features + size * gaussian(*features.shape, seed=9)], 1), labels)
    spectrum = snr_spectrum(statistics)
    assert spectrum.rank == 2 * width
    assert spectrum.rounding == pytest.approx(2 * width * 2**-52 * spectrum.condition_number)
    expected = torch.tensor(fifty_digits(statistics), dtype=torch.float64)
    torch.testing.assert_close(spectrum.singular_values, expected, rtol=spectrum.rounding, atol=0)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("depth", [1e-6, 1e-9])
def test_spectrum_keeps_every_digit_for_units_of_unlike_depths(depth: float, turned: bool) -> None:
    """One unit is noise, another has collapsed far."""
    labels, noise = torch.arange(120) % CLASSES, gaussian(120, 3, seed=1)
    noise[:, 1] += 0.8 * noise[:, 0]
    features = gaussian(CLASSES, 3, seed=0)[labels] + noise * torch.tensor([depth, 1.0, 1.0]).double()
    statistics = statistics_of(features.flip(1).contiguous() if turned else features, labels)
    assert snr_spectrum(statistics).singular_values.tolist() == pytest.approx(fifty_digits(statistics), rel=EXACT)


def test_snr_singular_values_unchanged_by_an_invertible_affine_map() -> None:
    features, labels = gaussian_features(7)
    mapped = features @ gaussian(7, 7, seed=1) + 100 * gaussian(7, seed=2)
    found, expected = (snr_singular_values(statistics_of(one, labels)) for one in (mapped, features))
    torch.testing.assert_close(found, expected, rtol=MEASURED, atol=0)
    scaled = features * torch.logspace(-6, 6, 7, dtype=torch.float64)
    conditions = [snr_spectrum(statistics_of(one, labels)).condition_number for one in (scaled, features)]
    assert conditions[0] == pytest.approx(conditions[1], rel=MEASURED)  # that of the correlation


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_snr_spectrum_ignores_dead_units(constant: float) -> None:
    features, labels = gaussian_features(6)
    dead = torch.full((len(labels), 3), constant, dtype=torch.float64)
    live_only, spectrum = (
        snr_spectrum(statistics_of(one, labels)) for one in (features, torch.cat([dead, features], 1))
    )
    torch.testing.assert_close(spectrum.singular_values, live_only.singular_values, rtol=EXACT, atol=0)
    assert spectrum.rank == live_only.rank == 6


@pytest.mark.parametrize(
    ("width", "spread", "digits"),
    # The last: features of size 10 are known to 1e-15, their spread of 1e-9 to 1e-6.
    [(2, 1.0, MEASURED), (3, 1.0, MEASURED), (6, 1.0, MEASURED), (6, 1e-9, 1e-5)],
)
def test_snr_spectrum_of_dependent_units_is_that_on_the_range(width: int, spread: float, digits: float) -> None:
    features, labels = gaussian_features(width, spread=spread)
    spectrum = snr_spectrum(statistics_of(features @ gaussian(width, 9, seed=2), labels))
    expected = snr_singular_values(statistics_of(features, labels))
    assert (spectrum.rank, len(expected), len(spectrum.singular_values)) == (width, min(width, 3), 3)
    torch.testing.assert_close(spectrum.singular_values[: len(expected)], expected, rtol=digits, atol=0)
    assert not spectrum.singular_values[len(expected) :].any()


@pytest.mark.parametrize("spread", [1e-5, 1e-7, 1e-9])
def test_snr_spectrum_rank_is_found_in_deep_collapse(spread: float) -> None:
    features, labels = gaussian_features(20, per_class=4, spread=spread)
    assert snr_spectrum(statistics_of(features, labels)).rank == len(labels) - CLASSES


FEATURES, LABELS = gaussian_features(6)
#: Reason → features.
UNDEFINED = {
    "1 units without within-class variation whose class means differ": torch.cat([FEATURES, LABELS[:, None]], 1),
    "no within-class variation in any unit": torch.eye(CLASSES, dtype=torch.float64)[LABELS],
    "no within-class variation in any unit, not even between classes": torch.ones_like(FEATURES),
    "features too small to be squared": 1e-157 * FEATURES,
    "features too large to be squared": 1e200 * FEATURES,
    "outside the range of a within-class covariance of rank 12 in 20 units": gaussian_features(20, per_class=4)[0],
}


@pytest.mark.parametrize("reason", UNDEFINED)
def test_snr_spectrum_undefined_is_nan_with_its_reason(reason: str) -> None:
    features, reason = UNDEFINED[reason], reason.partition(",")[0]
    statistics = statistics_of(
        features, LABELS if len(features) == len(LABELS) else torch.arange(4).repeat_interleave(4)
    )
    spectrum = snr_spectrum(statistics)
    assert not spectrum.defined
    assert spectrum.singular_values.isnan().all()
    assert reason in spectrum.undefined
    with pytest.raises(ValueError, match=reason):
        snr_singular_values(statistics)
