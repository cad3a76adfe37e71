"""`ncexp --help` and that of each command fit a window of 80 columns, and the first names every choice."""

from __future__ import annotations

import re

import pytest

from ncexp.cli import COMMANDS, help_text, main
from ncexp.config.installed import choices, home

COLUMNS = 80


def test_help_fits_a_window_with_the_commands_in_a_column() -> None:
    lines = help_text().splitlines()
    assert [line for line in lines if len(line) > COLUMNS and line != str(home())] == []
    starts = {line.index(text) for word, text in COMMANDS.items() for line in lines if line.startswith(f"  {word} ")}
    assert len(starts) == 1


@pytest.mark.parametrize(
    "group", ["dataset", "loss", "optimizer", "optimizer/schedule", "analysis", "experiment", "sweep", "hydra/launcher"]
)
def test_help_names_every_choice(group: str) -> None:
    """Of experiments the folders, whose files `ncexp list experiment` lists."""
    assert {name.partition("/")[0] for name in choices(group)} <= set(re.findall(r"\w+", help_text()))


def test_help_shows_what_has_to_be_set_beside_a_choice() -> None:
    assert "  table dataset.path=... dataset.label=...," in help_text()


@pytest.mark.parametrize("word", [word for word in COMMANDS if word != "train"])  # its help is Hydra's
def test_command_has_help_that_fits_a_window(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    with pytest.raises(SystemExit) as ended:
        main([word, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"usage: ncexp {word}" in printed
    assert [line for line in printed.splitlines() if len(line) > COLUMNS] == []
