"""`ncexp prepare`: data made ready, or refused."""

from __future__ import annotations

import pytest

from ncexp.cli import prepare
from ncexp.config.composing import REFUSALS


def test_prepare_prints_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["dataset=digits"]) == 0
    assert capsys.readouterr().out.split() == ["num_train", "1400", "num_test", "397"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=digit"], "digit"),
        (["dataset=digits", "dataset.examples_per_class=500"], "expected at most 173"),
        (["dataset=digits", "dataset.example=5"], "example"),
    ],
)
def test_prepare_refuses_what_cannot_be_had(overrides: list[str], message: str) -> None:
    with pytest.raises(REFUSALS, match=message):
        prepare.main(overrides)
