"""Theory against training: the fit of a record, where it starts, and what is said where there is none."""

from __future__ import annotations

import json
import math

import pytest
import torch

from ncexp.collapse import CentralPath
from ncexp.journal import Record
from ncexp.theory import compare_with_path, why_undefined

C, N, P = 4, 10, 8
FACTS = {"num_classes": C, "num_features": P, "smallest_class": N, "largest_class": N}
#: The fit's times come from a bisection to rounding.
FITTED = 1e-9


def record_of_path(error_free_from: int = 3, undefined: tuple[int, ...] = ()) -> list[Record]:
    """Ten epochs exactly on a central path, t growing as the cube of the epoch."""
    path = CentralPath(torch.tensor([2.0, 1.0, 0.5]), C, N)
    spectra = path.singular_values(torch.arange(10, dtype=torch.float64) ** 3)
    records: list[Record] = []
    for epoch, row in enumerate(spectra.tolist(), start=1):
        values = [math.nan] * 3 if epoch in undefined else row
        record: Record = {"epoch": epoch, "train/error": 0.0 if epoch >= error_free_from else 0.5, "path/rank": 5.0}
        records.append(record | {f"path/snr_{j}": value for j, value in enumerate(values, start=1)})
    return records


def test_comparison_of_a_path_with_itself_is_exact_from_zero_error_on() -> None:
    comparison = compare_with_path(record_of_path(), FACTS)
    assert comparison is not None
    assert comparison.fit is not None
    assert comparison.modes == [1, 2, 3]
    assert comparison.fit.epochs.tolist() == list(range(3, 11))
    assert comparison.fit.rms < FITTED
    expected = [(epoch - 1) ** 3 - 2**3 for epoch in range(3, 11)]
    assert comparison.fit.times.tolist() == pytest.approx(expected, rel=1e-6)
    losses = CentralPath(comparison.spectra[2], C, N).loss(comparison.fit.times)
    assert comparison.predicted_losses is not None
    assert comparison.predicted_losses[0].tolist() == pytest.approx(losses.tolist(), rel=1e-6)


def test_comparison_starts_where_it_is_told() -> None:
    comparison = compare_with_path(record_of_path(), FACTS, start_epoch=6)
    assert comparison is not None
    assert comparison.fit is not None
    assert comparison.fit.epochs[0] == 6
    with pytest.raises(ValueError, match=r"start_epoch: expected one of .* got 11"):
        compare_with_path(record_of_path(), FACTS, start_epoch=11)
    with pytest.raises(ValueError, match="expected a defined spectrum of positive ω at the start"):
        compare_with_path(record_of_path(undefined=(6,)), FACTS, start_epoch=6)


def test_comparison_starts_at_the_first_spectrum_and_lists_the_undefined() -> None:
    comparison = compare_with_path(record_of_path(undefined=(3, 7)), FACTS)
    assert comparison is not None
    assert comparison.fit is not None
    assert comparison.fit.epochs.tolist() == [4, 5, 6, 8, 9, 10]
    assert comparison.fit.excluded_epochs.tolist() == [7]
    assert list(comparison.undefined) == [3, 7]
    assert "of rank 5" in comparison.undefined[3]
    assert "no unit varies" in why_undefined({"path/rank": 0.0})


@pytest.mark.parametrize(
    ("records", "facts", "reason"),
    [
        (record_of_path(error_free_from=99), FACTS, "no epoch with a train error"),
        (record_of_path(error_free_from=10), FACTS, "fewer than two epochs"),
        (record_of_path(undefined=tuple(range(1, 11))), FACTS, "fewer than two epochs"),
        (record_of_path(), {**FACTS, "largest_class": 11}, "classes of equal size"),
    ],
)
def test_comparison_says_why_there_is_no_fit(records: list[Record], facts: dict[str, int], reason: str) -> None:
    comparison = compare_with_path(records, facts)
    assert comparison is not None
    assert comparison.fit is None
    assert reason in comparison.reason
    assert reason in comparison.sentence()
    assert comparison.to_json()["fitted"] is False


def test_comparison_needs_the_analysis() -> None:
    assert compare_with_path([{"epoch": 1, "train/error": 0.0}], FACTS) is None


def test_comparison_predicts_no_losses_from_a_part_of_the_modes() -> None:
    comparison = compare_with_path(record_of_path(), {**FACTS, "num_classes": 20})
    assert comparison is not None
    assert comparison.fit is not None
    assert comparison.predicted_losses is None


def test_comparison_as_json_has_no_nan() -> None:
    comparison = compare_with_path(record_of_path(undefined=(7,)), FACTS)
    assert comparison is not None
    content = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert content["start_epoch"] == 3
    assert content["excluded_epochs"] == [7]
    assert len(content["times"]) == len(content["residuals"]) == len(content["conserved_differences"]) == 7
    assert content["undefined"].keys() == {"7"}


def test_comparison_says_in_words_when_common_growth_fits_better() -> None:
    """All modes growing by one factor: the path, on which the small ones catch up, explains less than that."""
    records = record_of_path()
    for record in records:
        for j, start in enumerate((9.0, 3.0, 1.0), start=1):
            record[f"path/snr_{j}"] = start * 1.3 ** record["epoch"] * (1.01 if j == int(record["epoch"]) % 3 else 1)
    comparison = compare_with_path(records, FACTS)
    assert comparison is not None
    assert "equal growth of all fits better" in comparison.sentence()
