"""`ncexp --help`: it fits a window of 80 columns, and names every choice that there is."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from ncexp.cli import COMMANDS, HELP, home
from ncexp.config.composing import config_directory

COLUMNS = 80


def test_help_fits_a_window_of_eighty_columns() -> None:
    assert [line for line in HELP.splitlines() if len(line) > COLUMNS and line != home()] == []


def test_every_commands_line_stands_in_one_column() -> None:
    lines = HELP.splitlines()
    starts = {line.index(text) for word, text in COMMANDS.items() for line in lines if line.startswith(f"  {word} ")}
    assert len(starts) == 1


@pytest.mark.parametrize(
    "group", ["dataset", "loss", "optimizer", "optimizer/schedule", "analysis", "experiment", "sweep", "hydra/launcher"]
)
def test_help_names_every_choice(group: str) -> None:
    """Of experiments the folders, whose files `ncexp list experiment` lists."""
    found = {path.stem for path in (config_directory() / group).iterdir() if path.suffix == ".yaml" or path.is_dir()}
    nested = {"schedule"} if group == "optimizer" else set()
    assert found - nested - set(re.findall(r"\w+", HELP)) == set()


@pytest.mark.parametrize("word", [word for word in COMMANDS if word != "train"])  # its help is the whole one
def test_help_of_a_command_fits_a_window_of_eighty_columns(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    with pytest.raises(SystemExit):
        import_module(f"ncexp.cli.{word}").main(["--help"])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > COLUMNS] == []
