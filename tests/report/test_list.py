"""`ncexp list`: what there is to choose from."""

from __future__ import annotations

import pytest

from ncexp.cli import main as command
from ncexp.cli.list import GROUPS, main
from ncexp.config.installed import config_directory
from ncexp.record.quantities import QUANTITIES
from ncexp.report.glossary import render_markdown


def test_list_architecture_shows_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["architecture", "resnet18", "mlp", "--shape", "3", "32", "32"]) == 0
    shown = capsys.readouterr().out
    assert "11,173,962" in shown  # torchvision's 11,689,512 less the 1000-way layer and the 7×7 stem, plus ours
    assert "mlp" in shown


def test_list_quantities_shows_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantities"]) == 0
    shown = capsys.readouterr().out
    assert [row.name for row in QUANTITIES if row.name not in shown] == []
    assert main(["quantities", "mse"]) == 0
    shown = capsys.readouterr().out
    assert "mse/loss_nc1" in shown
    assert "collapse/nc1_trace" not in shown


def test_list_quantities_as_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantities", "--markdown"]) == 0
    assert capsys.readouterr().out == render_markdown()


@pytest.mark.parametrize("group", sorted({*GROUPS} - {"architecture"}))
def test_list_group_shows_each_choice_with_its_comment(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group]) == 0
    lines = capsys.readouterr().out.splitlines()
    files = sorted((config_directory() / group).glob("**/*.yaml" if group == "experiment" else "*.yaml"))
    assert len(lines) == len(files)
    for path in files:
        name = str(path.relative_to(config_directory() / group).with_suffix(""))
        (line,) = [line for line in lines if line.split()[0] == name]
        comment = line.removeprefix(name).strip()
        assert f"# {comment}" in path.read_text().splitlines() or not comment


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["architecture", "resnet19"], "Did you mean resnet18?"),
        (["los"], "Did you mean loss?"),
        (["loss", "msee"], "Did you mean mse?"),
        (["quantities", "colapse"], "Did you mean collapse?"),
    ],
)
def test_list_refuses_unknown_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["list", *words]) == 2
    assert message in capsys.readouterr().err
