"""Several sets of options of one analysis: who has the plain names, and which version is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ncexp.config import Component
from ncexp.measure.analyses import RobustnessAnalysis
from ncexp.record.measurements import begin, journal_of, list_measurements

ROBUSTNESS = Component(
    group="analysis.robustness",
    name="robustness",
    target="ncexp.measure.analyses.RobustnessAnalysis",
    options={"num_examples": 100, "sample_seed": 0},
)
FEWER = replace(ROBUSTNESS, options={"num_examples": 7, "sample_seed": 0})


def names(folder: Path) -> list[str]:
    """Of every number that is read, in order."""
    records = [record for one in list_measurements(folder) for record in one.records()]
    return [name for record in records for name in record if name != "epoch"]


def put(folder: Path, component: Component, value: float = 1.0) -> None:
    begin(folder, "robustness", component).put({"epoch": 1, "test/robustness/ratio": value, "test/error": value})


def test_journal_is_named_by_analysis_and_key_and_says_what_it_stands_for(tmp_path: Path) -> None:
    journal = begin(tmp_path, "robustness", ROBUSTNESS)
    assert journal.path == journal_of(tmp_path, "robustness", ROBUSTNESS).path
    assert journal.path.name == f"robustness_{ROBUSTNESS.key}.jsonl"
    assert list_measurements(tmp_path) == []  # nothing is measured yet
    put(tmp_path, ROBUSTNESS)
    (one,) = list_measurements(tmp_path)
    assert (one.analysis, one.key, one.target) == ("robustness", ROBUSTNESS.key, ROBUSTNESS.target)
    assert (one.options, one.version, one.distinct) == (ROBUSTNESS.options, 1, False)


@pytest.mark.parametrize("order", [(ROBUSTNESS, FEWER), (FEWER, ROBUSTNESS)])
def test_set_of_options_begun_first_has_the_plain_names(tmp_path: Path, order: tuple[Component, Component]) -> None:
    for component in (*order, order[0]):
        put(tmp_path, component)
    key = order[1].key
    expected = ["test/robustness/ratio", "test/error", f"test/robustness.{key}/ratio", f"test/{key}/error"]
    assert names(tmp_path) == expected


def test_latest_version_of_the_same_options_is_read_under_the_plain_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, ROBUSTNESS, 1.0)
    monkeypatch.setattr(RobustnessAnalysis, "version", 2, raising=False)
    put(tmp_path, ROBUSTNESS, 2.0)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    (one,) = list_measurements(tmp_path)
    assert not one.distinct
    assert [record["test/robustness/ratio"] for record in one.records()] == [2.0]


def test_journal_without_its_description_is_named(tmp_path: Path) -> None:
    put(tmp_path, ROBUSTNESS)
    beside = journal_of(tmp_path, "robustness", ROBUSTNESS).path.with_suffix(".json")
    beside.unlink()
    with pytest.raises(ValueError, match=f"expected {beside.name} beside it, got none"):
        list_measurements(tmp_path)
