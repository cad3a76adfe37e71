"""The commands that look at one choice."""

from __future__ import annotations

import pytest

from ncexp.commands import listing, prepare


def test_list_architecture_tells_sizes_and_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main(["architecture", "resnet18", "mlp", "--shape", "3", "32", "32"]) == 0
    shown = capsys.readouterr().out
    assert "11,173,962" in shown  # torchvision's 11,689,512 less the 1000-way layer and the 7×7 stem, plus ours
    assert "mlp" in shown


def test_list_architecture_refuses_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main(["architecture", "resnet19"]) == 2
    assert "Did you mean resnet18?" in capsys.readouterr().err


def test_prepare_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_prepare_refuses_what_is_not_to_be_had(
    overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(overrides) == 2
    assert message in capsys.readouterr().err
