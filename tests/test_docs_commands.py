"""The command lines of pages that no other test runs: each is composed and checked, so that a renamed key fails."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException
from support import compose

from ncexp.cli import COMMANDS
from ncexp.config import ConfigError, check, check_measurement, check_simulation

DOCS = Path(__file__).parents[1] / "docs"
#: Page → how many different commands it has at least: a page whose commands are no longer found would test nothing.
PAGES = {
    "augmentation": 3,
    "beyond_balanced": 8,
    "central_path": 9,
    "depth": 2,
    "fashion_mnist": 5,
    "free_features": 1,
    "heads_and_losses": 6,
    "optimizers": 3,
    "outside": 5,
    "regression": 6,
}
#: How the overrides of a subcommand are composed, and what checks the result; the others take none.
CHECKS: dict[str, tuple[str, Callable[..., object]]] = {
    "train": ("config", check),
    "simulate": ("simulate", check_simulation),
    "measure": ("measure", check_measurement),
}


def commands(text: str) -> list[list[str]]:
    """The different commands of a page, in words without `ncexp`: of indented lines, continued ones joined and comments
    cut, and in backticks.
    """
    lines = re.findall(r"^ {4,}ncexp(?=\s)(.*)$", text.replace("\\\n", " "), flags=re.MULTILINE)
    inline = re.findall(r"`ncexp(?=[\s`])([^`]*)`", text)
    return [list(words) for words in dict.fromkeys(tuple(shlex.split(one, comments=True)) for one in [*lines, *inline])]


def accept(words: list[str]) -> None:
    """Raises what a subcommand, a choice, a key or a value that does not exist raises."""
    subcommand = words[0] if words and words[0] in COMMANDS else "train"
    rest = words[1:] if subcommand in words[:1] else words
    if subcommand in CHECKS:
        name, checked = CHECKS[subcommand]
        # measure makes an override of its RUNs; the other two have no words but overrides, and Hydra's own.
        others = [word for word in rest if "=" not in word and word not in ("-m", "--cfg", "job")]
        assert bool(others) == (subcommand == "measure"), f"neither override nor subcommand: {others}"
        overrides = [word for word in rest if "=" in word] + [f"run={run}" for run in others]
        for run in expanded(overrides) if "-m" in rest else [overrides]:
            checked(compose(name, run))


def expanded(overrides: list[str]) -> list[list[str]]:
    """The runs of a sweep over values between commas; brackets hold one value."""
    values = [one.split("=", 1) for one in overrides]
    choices = [[text] if text[:1] in "[{" else text.split(",") for _, text in values]
    return [[f"{key}={one}" for (key, _), one in zip(values, run, strict=True)] for run in product(*choices)]


FOUND = [(page, words) for page in PAGES for words in commands((DOCS / f"{page}.md").read_text())]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "words"), FOUND, ids=lambda one: one if isinstance(one, str) else " ".join(one))
def test_documented_command_is_accepted(page: str, words: list[str]) -> None:
    accept(words)


def test_every_command_of_a_page_is_found() -> None:
    for page, fewest in PAGES.items():
        assert sum(one == page for one, _ in FOUND) >= fewest, page


@pytest.mark.parametrize(
    "command",
    [
        "optimizer.renamed=0.5",
        "optimizer=renamed",
        "regime=renamed",
        "experiment=unconstrained_features architecture.classifier=least_squares",
        "simulate simulation.renamed=1",
        "measure RUN analysis=renamed",
        "renamed",
    ],
)
def test_command_that_no_longer_exists_is_refused(command: str) -> None:
    with pytest.raises((ConfigError, MissingConfigException, AssertionError)):
        accept(shlex.split(command))
