"""docs/extending.md as a stranger follows it, outside the clone: its files are written, its commands run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import run_commands

from ncexp.record import State, load

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
#: The first line of a file's block is its name.
FILES = dict(re.findall(r"```(?:python|yaml)\n# ([\w/]+\.(?:py|yaml))\n(.*?)```", TEXT, flags=re.DOTALL))
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for command in re.split(r"(?<!\\)\n", block.strip())
]


def lines(name: str) -> int:
    """Those that somebody has to write: blank ones do not count."""
    return sum(bool(line.strip()) for line in FILES[name].splitlines())


def test_counts_are_those_of_the_files() -> None:
    rows = re.findall(
        r"^\| \[.*\]\(#.*\) \| `(.*?)`, (?:`(.*?)`|none) \| (\d+)(?: \+ (\d+))? \|$", TEXT, flags=re.MULTILINE
    )
    assert len(rows) == 7
    for python, choice, of_python, of_choice in rows:
        assert lines(python) == int(of_python), python
        assert not choice or lines(f"choices/{choice}") == int(of_choice), choice
    told = {python for python, *_ in rows} | {f"choices/{choice}" for _, choice, *_ in rows if choice}
    assert told == set(FILES)


@pytest.mark.slow
def test_documented_choices_run_outside_the_clone(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    run_commands(COMMANDS, tmp_path)
    runs = {run.name: run for run in load(tmp_path / "outputs")}
    mine = runs["blobs-wide-pull_lr0.05_seed0"]
    assert all(record["train/gradient/norm"] > 0 for record in mine.records)
    rates = [record["fit/lr"] for record in mine.training]
    assert rates == pytest.approx([0.05 * 0.01, 0.05 * 0.75, 0.05 * 0.5])  # warm_up at the epochs' first steps
    early = runs["early"]
    values = [record["train/collapse/nc1_trace"] for record in early.records]
    assert early.state is State.COMPLETED
    assert len(values) < 100
    assert values[-1] < 0.125 <= min(values[:-1])
