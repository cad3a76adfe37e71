"""Every page of docs/ begins with what it lets one do and a command; the README's commands are refused by nothing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ncexp.cli import COMMANDS
from ncexp.config import check
from ncexp.config.composing import compose_plain

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
#: The commands of its indented blocks, continued lines joined, comments cut.
README_COMMANDS = [
    shlex.split(command, comments=True)[1:]
    for command in re.findall(r"^ {4,}(ncexp(?: .*)?)$", README.replace("\\\n", " "), flags=re.MULTILINE)
]
#: Lines in which a reader has seen what a page is for, and a command or the first lines of code.
BEGINNING = 16


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_page_begins_with_its_use_and_a_command(path: Path) -> None:
    lines = path.read_text().splitlines()[:BEGINNING]
    assert lines[0].startswith("# ")
    beginning = "\n".join(lines)
    assert re.search(r"(This|On this) page (lets you|says how to|you )", beginning)
    assert re.search(r"^(    (ncexp|pip|python)\b|```)", beginning, flags=re.MULTILINE)


def test_readme_commands_are_commands() -> None:
    assert [] in README_COMMANDS  # ncexp alone
    assert len(README_COMMANDS) >= 5
    for words in filter(None, README_COMMANDS):
        assert words[0] in COMMANDS or words[0] == "-m" or "=" in words[0], words


@pytest.mark.parametrize("words", [words for words in README_COMMANDS if words and "=" in words[0]], ids=" ".join)
def test_readme_choices_are_accepted(words: list[str]) -> None:
    check(compose_plain("config", words))
