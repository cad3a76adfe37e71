"""docs/anybody.md, from top to bottom: its files are written, and its commands run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import run_commands

from ncexp.record import load

TEXT = (Path(__file__).parents[1] / "docs" / "anybody.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, flags=re.DOTALL))
COMMANDS = [
    command
    for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for command in re.split(r"(?<!\\)\n", block.strip())
]


@pytest.mark.slow
def test_every_command_of_the_text_is_seen() -> None:
    assert list(FILES)[:2] == ["my_package.py", "train.py"]
    assert sum(command.startswith("ncexp ") for command in COMMANDS) >= 6


@pytest.mark.slow
def test_documented_commands_run_as_printed(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    run_commands(COMMANDS, tmp_path)
    runs = {run.name: run for run in load(tmp_path / "outputs")}
    measured = runs["my_package.data-torchvision_resnet18-mse_mean_checkpoints"]
    assert [record["epoch"] for record in measured.records] == [3, 6, 9]
    assert measured.facts["ridge_weight"] == pytest.approx(10 * 5e-4 / 2)
    assert {"digits-timm_resnet10t", "digits-my_package.make"} <= {name.rsplit("-", 1)[0] for name in runs}
