"""docs/glossary.md: in order, each term with a sentence and a page that has more, formulas those of the catalogue; and
tables that fit a screen.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ncexp.record.quantities import QUANTITIES

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "glossary.md").read_text()
ENTRIES = dict(re.findall(r"^### (.+)\n((?:(?!###).+\n?)+)", PAGE, flags=re.MULTILINE))
#: How letters that are no Latin ones are read.
READ = {"λ": "lambda", "Σ_W, Σ_B, Σ_T": "sigma"}
#: Of rows with one name, that of train and test.
ROWS = {row.name: row for row in reversed(QUANTITIES)}


def test_terms_are_in_alphabetical_order() -> None:
    assert len(ENTRIES) > 40
    read = [re.sub(r"[^a-z0-9]", "", READ.get(term, term).lower()) for term in ENTRIES]
    assert read == sorted(read)


@pytest.mark.parametrize("term", ENTRIES)
def test_term_has_a_sentence_and_says_where_there_is_more(term: str) -> None:
    entry = ENTRIES[term]
    assert re.search(r"\]\((#|\w+\.md)", entry)  # that the place exists: tests/test_wheel.py
    said = " ".join(entry.partition("More: ")[0].split())
    assert said.endswith((".", ".)"))
    assert said.count(". ") <= 1


def test_formulas_are_those_of_the_catalogue() -> None:
    named = [(term, name) for term, entry in ENTRIES.items() for name in re.findall(r"\(`(\w+/[\w<>]+)`\)", entry)]
    assert len(named) > 15
    for term, name in named:
        assert ROWS[name].symbol in " ".join(ENTRIES[term].split()), (term, name)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in REPOSITORY.glob("docs/*.md"))])
def test_table_has_eight_columns_at_most(page: str) -> None:
    for line in re.findall(r"^\|[ :|-]+\|$", (REPOSITORY / page).read_text(), flags=re.MULTILINE):
        assert line.count("|") - 1 <= 8, line
