"""Every page of docs/ begins with what it lets one do and a command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
#: Lines in which a reader has seen what a page is for, and a command or the first lines of code.
BEGINNING = 16


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_page_begins_with_its_use_and_a_command(path: Path) -> None:
    lines = path.read_text().splitlines()[:BEGINNING]
    assert lines[0].startswith("# ")
    beginning = "\n".join(lines)
    assert re.search(r"(This|On this) page (lets you|says how to|you )", beginning)
    assert re.search(r"^(    (ncexp|pip|python)\b|```)", beginning, flags=re.MULTILINE)


def test_index_names_every_page() -> None:
    named = re.findall(r"\]\(([\w.]+)\)", (REPOSITORY / "docs/index.md").read_text())
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.[mi][dp]*")} - {"index.md"}
    assert (sorted(named), len(named)) == (sorted(pages), len(pages))
