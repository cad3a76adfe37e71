"""The SNR spectrum against exact cases, against fifty-digit arithmetic, and where it must be undefined."""

import mpmath
import pytest
import torch
from torch import Tensor

from ncexp.collapse.class_statistics import class_statistics
from ncexp.collapse.snr_spectrum import snr_singular_values, snr_spectrum

EXACT = 1e-12  # well-conditioned cases: rounding of a few hundred operations
MEASURED = 1e-9  # what the spectrum promises at the condition numbers that trained networks show
CLASSES = 4


def gaussian_features(num_features: int, per_class: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    means = 3 * torch.randn(CLASSES, num_features, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), num_features, generator=generator, dtype=torch.float64)
    return means[labels] + noise, labels


def fifty_digit_spectrum(features: Tensor, labels: Tensor) -> Tensor:
    """ω from the features in 50-digit arithmetic: squared singular values as eigenvalues of M̄ᵀ Σ_W^{-1} M̄."""
    with mpmath.workdps(50):
        rows = [mpmath.matrix(row.tolist()) for row in features]
        members = [[r for r, y in zip(rows, labels.tolist(), strict=True) if y == c] for c in range(CLASSES)]
        means = [sum(m[1:], m[0]) / len(m) for m in members]
        grand = sum(rows[1:], rows[0]) / len(rows)
        width = features.shape[1]
        covariance = mpmath.zeros(width)
        for members_c, mean in zip(members, means, strict=True):
            for row in members_c:
                covariance += (row - mean) * (row - mean).T / len(rows)
        centred = mpmath.matrix(width, CLASSES)
        for c, mean in enumerate(means):
            centred[:, c] = mean - grand
        squared = mpmath.eigsy(centred.T * mpmath.inverse(covariance) * centred, eigvals_only=True)
        values = sorted((float(mpmath.sqrt(abs(v))) for v in squared), reverse=True)
    return torch.tensor(values[: CLASSES - 1], dtype=torch.float64)


def test_snr_singular_values_whitened_case_is_the_means_own_spectrum() -> None:
    # Deviations ±√P e_k in every class: Σ_W = I exactly, so ω are the singular values of M̄.
    num_features = 5
    steps = torch.eye(num_features, dtype=torch.float64) * num_features**0.5
    means = torch.randn(CLASSES, num_features, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    features = torch.cat([mean + torch.cat([steps, -steps]) for mean in means])
    labels = torch.arange(CLASSES).repeat_interleave(2 * num_features)
    expected = torch.linalg.svdvals(means - means.mean(dim=0))[: CLASSES - 1]
    values = snr_singular_values(class_statistics(features, labels, CLASSES))
    torch.testing.assert_close(values, expected, rtol=EXACT, atol=0)
    assert values.dtype == torch.float64


@pytest.mark.parametrize("collapse", [1.0, 1e-5])
@pytest.mark.parametrize("spread", [0, 4])
def test_snr_singular_values_match_fifty_digits(collapse: float, spread: int) -> None:
    features, labels = gaussian_features(6, per_class=12)
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(CLASSES)])[labels]
    mix = 0.01 * torch.eye(6, dtype=torch.float64) + 1  # the correlation's condition number is about 4e5
    scales = torch.logspace(-spread, spread, 6, dtype=torch.float64)
    features = (means + collapse * (features - means) @ mix) * scales
    values = snr_singular_values(class_statistics(features, labels, CLASSES))
    torch.testing.assert_close(values, fifty_digit_spectrum(features, labels), rtol=MEASURED, atol=0)


@pytest.mark.parametrize("width", [3, 6])
@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5, 2e-6])
def test_snr_spectrum_of_near_copies_says_how_many_digits_hold(size: float, width: int) -> None:
    features, labels = gaussian_features(width, per_class=20)
    difference = torch.randn(features.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    near_copies = torch.cat([features, features + size * difference], dim=1)
    spectrum = snr_spectrum(class_statistics(near_copies, labels, CLASSES))
    assert spectrum.rank == 2 * width
    assert spectrum.rounding == pytest.approx(2 * width * 2**-52 * spectrum.condition_number)
    expected = fifty_digit_spectrum(near_copies, labels)
    torch.testing.assert_close(spectrum.singular_values, expected, rtol=spectrum.rounding, atol=0)
    # and is no empty bound: within three digits of what happens
    assert float((spectrum.singular_values / expected - 1).abs().max()) > 1e-4 * spectrum.rounding


def test_snr_singular_values_unchanged_by_an_invertible_affine_map() -> None:
    features, labels = gaussian_features(7)
    generator = torch.Generator().manual_seed(1)
    mapping = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    mapped = features @ mapping + 100 * torch.randn(7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        snr_singular_values(class_statistics(mapped, labels, CLASSES)),
        snr_singular_values(class_statistics(features, labels, CLASSES)),
        rtol=MEASURED,
        atol=0,
    )


def test_snr_spectrum_of_few_features_has_one_value_per_feature() -> None:
    features, labels = gaussian_features(2)
    spectrum = snr_spectrum(class_statistics(features, labels, CLASSES))
    assert spectrum.singular_values.shape == (2,)
    assert spectrum.rank == 2


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_snr_spectrum_ignores_dead_units(constant: float) -> None:
    features, labels = gaussian_features(6)
    dead = torch.full((len(labels), 3), constant, dtype=torch.float64)
    live_only = snr_spectrum(class_statistics(features, labels, CLASSES))
    spectrum = snr_spectrum(class_statistics(torch.cat([dead, features], dim=1), labels, CLASSES))
    torch.testing.assert_close(spectrum.singular_values, live_only.singular_values, rtol=EXACT, atol=0)
    assert spectrum.rank == live_only.rank == 6


@pytest.mark.parametrize("width", [3, 6])
def test_snr_spectrum_of_dependent_units_is_that_on_the_range(width: int) -> None:
    features, labels = gaussian_features(width)
    copies = features @ torch.randn(width, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    spectrum = snr_spectrum(class_statistics(copies, labels, CLASSES))
    expected = snr_singular_values(class_statistics(features, labels, CLASSES))
    assert spectrum.rank == width
    torch.testing.assert_close(spectrum.singular_values, expected, rtol=MEASURED, atol=0)


@pytest.mark.parametrize("spread", [1e-5, 1e-7, 1e-9])
def test_snr_spectrum_rank_is_found_in_deep_collapse(spread: float) -> None:
    features, labels = gaussian_features(20, per_class=4)
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(CLASSES)])[labels]
    statistics = class_statistics(means + spread * (features - means), labels, CLASSES)
    assert snr_spectrum(statistics).rank == len(labels) - CLASSES


def test_snr_spectrum_of_dependent_units_survives_deep_collapse() -> None:
    features, labels = gaussian_features(6)
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(CLASSES)])[labels]
    collapsed = means + 1e-9 * (features - means)
    mixing = torch.randn(6, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    spectrum = snr_spectrum(class_statistics(collapsed @ mixing, labels, CLASSES))
    expected = snr_singular_values(class_statistics(collapsed, labels, CLASSES))
    assert spectrum.rank == 6
    data_rounding = 1e-5  # features of size 10 are known to 1e-15, their spread of 1e-9 to 1e-6
    torch.testing.assert_close(spectrum.singular_values, expected, rtol=data_rounding, atol=0)


def test_snr_spectrum_rank_below_the_number_of_modes_pads_with_zeros() -> None:
    features, labels = gaussian_features(2)
    doubled = torch.cat([features, features @ torch.ones(2, 2, dtype=torch.float64)], dim=1)
    spectrum = snr_spectrum(class_statistics(doubled, labels, CLASSES))
    assert spectrum.rank == 2
    assert spectrum.singular_values.shape == (3,)
    assert spectrum.singular_values[2] == 0


def test_snr_spectrum_condition_number_is_that_of_the_correlation() -> None:
    features, labels = gaussian_features(6)
    scaled = class_statistics(features * torch.logspace(-6, 6, 6, dtype=torch.float64), labels, CLASSES)
    plain = class_statistics(features, labels, CLASSES)
    assert snr_spectrum(scaled).condition_number == pytest.approx(snr_spectrum(plain).condition_number, rel=MEASURED)


def undefined_cases() -> dict[str, tuple[Tensor, Tensor, str]]:
    features, labels = gaussian_features(6)
    separating = torch.cat([features, labels[:, None].double()], dim=1)
    collapsed = torch.eye(CLASSES, dtype=torch.float64)[labels]
    narrow, narrow_labels = gaussian_features(20, per_class=4)
    return {
        "separating unit": (separating, labels, "1 units without within-class variation whose class means differ"),
        "exact collapse": (collapsed, labels, "no within-class variation in any unit"),
        "underflow": (1e-157 * features, labels, "features too small to be squared"),
        "overflow": (1e200 * features, labels, "features too large to be squared"),
        "one point": (torch.ones_like(features), labels, "no within-class variation in any unit"),
        "few examples": (
            narrow,
            narrow_labels,
            "outside the range of a within-class covariance of rank 12 in 20 units",
        ),
    }


@pytest.mark.parametrize("case", undefined_cases())
def test_snr_spectrum_undefined_is_nan_with_its_reason(case: str) -> None:
    features, labels, reason = undefined_cases()[case]
    statistics = class_statistics(features, labels, CLASSES)
    spectrum = snr_spectrum(statistics)
    assert not spectrum.defined
    assert spectrum.singular_values.isnan().all()
    assert reason in spectrum.undefined
    with pytest.raises(ValueError, match=reason):
        snr_singular_values(statistics)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("depth", [1e-6, 1e-9])
def test_spectrum_keeps_every_digit_for_units_of_unlike_depths(depth, turned):
    """One unit is noise, another has collapsed far; against mpmath on the statistics as they are."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 4
    means, noise = (torch.randn(rows, 3, generator=generator, dtype=torch.float64) for rows in (4, 120))
    noise[:, 1] += 0.8 * noise[:, 0]
    features = means[labels] + noise * torch.tensor([depth, 1.0, 1.0]).double()
    statistics = class_statistics(features.flip(1).contiguous() if turned else features, labels, 4)
    with mpmath.workdps(50):
        covariance = mpmath.matrix(statistics.within_class_covariance.tolist())
        rows = mpmath.matrix(statistics.class_means.tolist())
        for place in range(3):
            center = mpmath.fsum(rows[c, place] for c in range(4)) / 4
            for c in range(4):
                rows[c, place] -= center
        squares = sorted(mpmath.eigsy(rows * mpmath.inverse(covariance) * rows.T, eigvals_only=True))[:0:-1]
        expected = [float(mpmath.sqrt(square)) for square in squares]
    assert snr_spectrum(statistics).singular_values.tolist() == pytest.approx(expected, rel=1e-12)
