"""Theory against training: the fit of a record, where it starts, and what is said where there is none."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from synthetic_path import C, N, records_of_path, run_with

from ncexp.collapse import CentralPath
from ncexp.measure.path_fit import compare_with_path, why_undefined
from ncexp.record import Record
from ncexp.record.quantities import find

#: The fit's times come from a bisection to rounding.
FITTED = 1e-9


def compared(records: list[Record] | None = None, start_epoch: int | None = None, **facts: int) -> Any:
    """What the path makes of these records, or of those of a path; as Any, for its fit is there or not."""
    found = compare_with_path(run_with(records_of_path() if records is None else records, **facts), start_epoch)
    assert found is not None
    return found


def test_comparison_of_a_path_with_itself_is_exact_from_zero_error_on() -> None:
    comparison = compared()
    assert comparison.modes == [1, 2, 3]
    assert comparison.fit.epochs.tolist() == list(range(3, 11))
    assert comparison.fit.rms < FITTED
    expected = [(epoch - 1) ** 3 - 2**3 for epoch in range(3, 11)]
    assert comparison.fit.times.tolist() == pytest.approx(expected, rel=1e-6)
    losses = CentralPath(comparison.spectra[2], C, N).loss(comparison.fit.times)
    assert comparison.predicted_losses[0].tolist() == pytest.approx(losses.tolist(), rel=1e-6)
    assert compared(num_classes=20).predicted_losses is None  # of a part of the modes


def test_comparison_starts_at_the_epoch_asked_for() -> None:
    assert compared(start_epoch=6).fit.epochs[0] == 6
    with pytest.raises(ValueError, match=r"start_epoch: expected one of .* got 11"):
        compared(start_epoch=11)
    with pytest.raises(ValueError, match="expected a defined spectrum of positive ω at the start"):
        compared(records_of_path(undefined=(6,)), start_epoch=6)


def test_comparison_starts_at_the_first_spectrum_and_lists_the_undefined() -> None:
    comparison = compared(records_of_path(undefined=(3, 7)))
    assert comparison.fit.epochs.tolist() == [4, 5, 6, 8, 9, 10]
    assert comparison.fit.excluded_epochs.tolist() == [7]
    assert list(comparison.undefined) == [3, 7]
    assert "of rank 5" in comparison.undefined[3]
    assert "no unit varies" in why_undefined({"train/path/rank": 0.0})


@pytest.mark.parametrize(
    ("records", "facts", "reason"),
    [
        (records_of_path(error_free_from=99), {}, "no epoch with a train error"),
        (records_of_path(error_free_from=10), {}, "fewer than two epochs"),
        (records_of_path(undefined=tuple(range(1, 11))), {}, "fewer than two epochs"),
        (records_of_path(), {"largest_class": 11}, "classes of equal size"),
    ],
)
def test_comparison_says_why_there_is_no_fit(records: list[Record], facts: dict[str, int], reason: str) -> None:
    comparison = compared(records, **facts)
    assert comparison.fit is None
    assert reason in comparison.reason
    assert reason in comparison.sentence()
    assert comparison.to_json()["fitted"] is False
    assert comparison.records() == []


def test_comparison_needs_the_analysis() -> None:
    assert compare_with_path(run_with([{"epoch": 1, "train/error": 0.0}])) is None


def test_comparison_as_json_has_no_nan() -> None:
    content = json.loads(json.dumps(compared(records_of_path(undefined=(7,))).to_json(), allow_nan=False))
    assert content["start_epoch"] == 3
    assert content["excluded_epochs"] == [7]
    assert [record["epoch"] for record in content["records"]] == [3, 4, 5, 6, 8, 9, 10]
    assert len(content["conserved_differences"]) == 7
    assert content["undefined"].keys() == {"7"}


def test_records_of_a_fit_bear_the_names_of_the_catalogue() -> None:
    records = records_of_path()
    for record in records:  # of more modes than are recorded, the second is left out
        record["train/path/snr_4"] = record.pop("train/path/snr_3")
    comparison = compared(records)
    first, *_, last = comparison.records()
    assert {"train/path_fit/time", "train/path_fit/predicted_4", "train/path_fit/residual_1"} <= first.keys()
    assert first["train/path_fit/predicted_4"] == records[2]["train/path/snr_4"]
    assert "train/path_fit/rms" not in first
    assert last["train/path_fit/rms"] == comparison.fit.rms
    assert last["train/path_fit/mode_rms_2"] == float(comparison.fit.mode_rms[1])
    assert all(find(name) is not None for name in last if name != "epoch")


def test_comparison_says_in_words_when_common_growth_fits_better() -> None:
    """All modes growing by one factor: the path, on which the small ones catch up, explains less than that."""
    records = records_of_path()
    for record in records:
        for j, start in enumerate((9.0, 3.0, 1.0), start=1):
            wobble = 1.01 if j == int(record["epoch"]) % 3 else 1
            record[f"train/path/snr_{j}"] = start * 1.3 ** record["epoch"] * wobble
    words = "; how modes differ in growth it does not explain: one factor for all modes would fit better"
    assert compared(records).sentence().endswith(words)


def test_sentence_of_a_fit_has_its_numbers() -> None:
    comparison = compared()
    fit = replace(comparison.fit, rms=math.log(1.25), explained=0.98765, explained_spread=0.5)
    assert replace(comparison, fit=fit).sentence() == (
        "closed form fitted from epoch 3: a typical ω differs from it by a factor of 1.25; it explains 98.8% of the "
        "growth; of how modes differ in growth it explains 50.0%"
    )
    alike = replace(comparison, fit=replace(fit, explained_spread=math.nan)).sentence()
    assert alike.endswith("; all modes grew by the same factor, so there is no difference between them to explain")
