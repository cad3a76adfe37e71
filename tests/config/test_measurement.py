"""The schema of `ncexp measure`, and the key of one analysis with its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import Compose, compose

from ncexp.config import ConfigError, check, check_measurement
from ncexp.measure.analyses import RobustnessAnalysis


def asked(*overrides: str) -> dict[str, Any]:
    return compose("measure", ["run=outputs/a_0123456789", *overrides])


def test_measure_config_names_the_run_and_its_analyses() -> None:
    config = check_measurement(asked("analysis=[layers,robustness]", "device=cpu", "rerun=all"))
    assert config.run == Path("outputs/a_0123456789").absolute()
    assert list(config.analyses) == ["layers", "robustness"]
    assert (config.device, config.rerun) == ("cpu", "all")
    assert config.name == "a_0123456789-layers-robustness"
    assert config.directory.parent.parent == config.run
    assert check_measurement(asked()).analyses == {}  # the run's own


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rerun=failed", "rerun: expected 'missing' or 'all', got 'failed'"),
        ("device=gpu", "device: expected auto, cpu, cuda or cuda:k, got 'gpu'"),
        ("run=''", "run: expected"),
        ("+epochs=3", "epochs: no such key. Valid: analysis, device, outputs, rerun, run"),
        ("+analysis.robustness.examples=3", "analysis.robustness.examples: no such key. Valid: num_examples"),
    ],
)
def test_measure_config_refuses_with_what_would_be_right(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_measurement(asked("analysis=[robustness]", override))


@pytest.mark.slow
def test_measurement_key_changes_with_options_and_version_alone(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(*overrides: str) -> str:
        return check(composed("analysis=[robustness]", *overrides)).analyses["robustness"].key

    before = key()
    assert key("seed=5", "epochs=2", "loss=cross_entropy", "analysis.robustness.name=other") == before
    assert key("analysis.robustness.num_examples=7") != before
    monkeypatch.setattr(RobustnessAnalysis, "version", 2, raising=False)
    assert key() != before


def test_measurement_of_another_analysis_or_run_has_a_directory_of_its_own() -> None:
    keys = {
        check_measurement(asked(*overrides)).key
        for overrides in ([], ["analysis=[robustness]"], ["analysis=[layers]"], ["run=outputs/b_0123456789"])
    }
    assert len(keys) == 4
    assert check_measurement(asked("rerun=all", "device=cpu", "outputs=elsewhere")).key in keys
