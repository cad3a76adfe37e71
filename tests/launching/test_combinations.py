"""Combinations of a sweep that train the same weights are one run: it measures what any of them asks for."""

from __future__ import annotations

from typing import Any

import pytest
from support import Compose

from ncexp.config import ConfigError
from ncexp.launching.plan import Asked, check_all, note_on_optimizers


@pytest.fixture(autouse=True)
def parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds, and are not meant here."""
    monkeypatch.setattr("ncexp.launching.plan.faults_of_parts", lambda asked: {})


@pytest.fixture
def check_sweep(composed: Compose) -> Any:
    def check(*combinations: list[str]) -> list[Asked]:
        return check_all([(list(words), composed(*words)) for words in combinations])

    return check


@pytest.mark.slow
def test_analyses_of_the_same_weights_are_merged(check_sweep: Any) -> None:
    both, other = check_sweep(
        ["analysis=[collapse]", "seed=1"],
        ["analysis=[decisions]", "seed=1"],
        ["analysis=[collapse]", "seed=2"],
        ["analysis=[collapse,decisions]", "seed=1"],
    )
    assert set(both.task.analyses) == set(both.task.raw["analysis"]) == {"collapse", "decisions"}
    assert both.overrides == ["analysis=[collapse]", "seed=1", "analysis=[decisions]"]
    assert set(other.task.analyses) == {"collapse"}
    assert both.task.key != other.task.key


def test_evaluated_epochs_of_the_same_weights_are_merged(check_sweep: Any) -> None:
    (merged,) = check_sweep(["evaluate_at=[1,3]"], ["evaluate_at=[3,2]"])
    assert merged.task.evaluated == [1, 2, 3, 6]
    assert merged.task.raw["evaluate_at"] == [1, 2, 3]


def test_equal_combinations_are_one_run(check_sweep: Any) -> None:
    (one,) = check_sweep(["optimizer.lr=0.1"], ["optimizer.lr=1e-1"])
    assert one.overrides == ["optimizer.lr=0.1"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("threads=1", "threads=2", "threads: expected one value for one run, got 1 and 2 of"),
        ("device=cpu", "device=auto", "device: expected one value for one run, got 'cpu' and 'auto' of"),
        ("rerun=all", "rerun=none", "rerun: expected one value for one run, got 'all' and 'none' of"),
        (
            "keep.checkpoints=last",
            "keep.checkpoints=evaluated",
            "keep.checkpoints: expected one value for one run, got 'last' and 'evaluated' of",
        ),
        ("tracking.enabled=true", "tracking.enabled=false", "tracking.enabled: expected one value for one run"),
        (
            "analysis.robustness.num_examples=5",
            "analysis.robustness.num_examples=6",
            "analysis.robustness.num_examples: expected one value for one run, got 5 and 6 of",
        ),
    ],
)
def test_combinations_that_contradict_each_other_are_refused(
    check_sweep: Any, first: str, second: str, message: str
) -> None:
    base = ["analysis=[robustness]"]
    with pytest.raises(ConfigError, match="nothing was begun; expected 2 runs that can be run") as refused:
        check_sweep([*base, first], [*base, second])
    assert f"{second}\n    {message}" in str(refused.value)


def test_several_optimizers_by_default_are_said(composed: Compose) -> None:
    def note(*swept: list[str]) -> str:
        return note_on_optimizers(check_all([(words, composed(*words, base=["epochs=1"])) for words in swept]))

    both = note(["loss=mse_mean"], ["loss=mse"], ["loss=cross_entropy"])
    assert both.startswith("optimizer adam in 2, sgd in 1 of 3 runs, each by its own default")
    assert note(["loss=mse"], ["loss=cross_entropy"]) == ""
    assert note(["optimizer=sgd", "loss=mse"], ["optimizer=adam", "loss=mse"]) == ""
    assert note(["experiment=quick/vgg"], ["experiment=decay"]) == ""
