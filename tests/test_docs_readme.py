"""README.md as a reader follows it: every command and every line of Python, from top to bottom, in one folder."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from documented import run_commands
from official_files import examples
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from ncexp.cli import COMMANDS
from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.datasets import images
from ncexp.datasets.official import OfficialSet
from ncexp.record import State, load

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "README.md").read_text()
#: What stands in an indented block and is neither command nor Python: a formula, and the paper to cite.
NO_CODE = ("L  =", "X. Y. Han")
#: An indented block, with the blank lines in it; a command in backticks.
BLOCK_OR_COMMAND = r"((?:^ {4,}\S.*\n(?:\n(?= {5}))?)+)|`(ncexp(?: [^`]*)?)`"
#: What a reader puts in the place of a word in capitals.
NAMES = {"RUN": "digits-resnet-mse_mean_lr0.25", "NAME": "main"}


def steps(text: str) -> list[str]:
    """Commands and pieces of Python as they are read: of indented blocks, continued lines joined, and in backticks."""
    found: list[str] = []
    for block, inline in re.findall(BLOCK_OR_COMMAND, text, flags=re.MULTILINE):
        lines = [inline] if inline else dedent(block).replace("\\\n", " ").splitlines()
        if is_command(lines[0]):
            found += lines
        elif not lines[0].startswith(NO_CODE):
            found.append("\n".join(lines))
    return found


def is_command(step: str) -> bool:
    return re.match(r"(pip|ncexp)( |$)", step) is not None


STEPS = steps(TEXT)
WORDS = [shlex.split(step, comments=True)[1:] for step in STEPS if step.startswith("ncexp")]


def shortened(command: str) -> str:
    """The same of fewer epochs and of the few images that the test has; the paper's cell, of hours, of a small network.

    pip and pytest have run before this test.
    """
    for name, value in NAMES.items():
        command = re.sub(rf"\b{name}\b", value, command)
    command = command.partition("#")[0].strip()
    words = shlex.split(command.rpartition("&& ")[2])
    if words[0] == "pytest":
        return "true"
    if words[1:2] == ["compare"]:  # with a run of three epochs, which is not what the reference's seeds came to
        return f"{command} || [ $? = 1 ]"
    few = ["dataset.examples_per_class=6"] if "architecture=" in command or "han2022" in command else []
    few += ["architecture=mlp"] if "han2022" in command else []
    if len(words) == 1 or words[1] == "-m" or "=" in words[1]:
        few += [f"epochs={3 if len(words) == 1 else 2}", *(["batch_size=20"] if few else [])]
    return shlex.join([*words, *few])


def test_two_commands_stand_first() -> None:
    before, _, after = TEXT.partition("\n## ")
    assert "    " not in before
    assert after.startswith("Two commands\n")
    assert STEPS[:2] == ["pip install -e . && ncexp", 'pip install -e ".[dev]" && pytest']
    assert "dev" in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert 'pip install --quiet --disable-pip-version-check -e ".[dev]"' in (REPOSITORY / ".ci" / "run").read_text()


def test_every_step_is_a_command_or_python() -> None:
    assert sum(map(is_command, STEPS)) >= 12
    for step in STEPS:
        if not is_command(step):
            ast.parse(step)
    for words in filter(None, WORDS):
        assert words[0] in COMMANDS or words[0] == "-m" or "=" in words[0] or words[0].startswith("--"), words


@pytest.mark.parametrize("words", [words for words in WORDS if words and "=" in words[0]], ids=" ".join)
def test_choices_are_accepted(words: list[str]) -> None:
    check(compose_mapping("config", words))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the README takes for granted: a reader's CIFAR10, decoded, and checkpoints of a training on it."""
    train, labels, test, test_labels = map(torch.from_numpy, examples(3, 32))
    monkeypatch.setattr(OfficialSet, "read", lambda self, root: ((train, labels), (test, test_labels), True))
    monkeypatch.delenv("NCEXP_DATA", raising=False)
    (tmp_path / "data").mkdir()
    images.load(source="cifar10", examples_per_class=6, root=str(tmp_path / "data"))
    (tmp_path / "ckpts").mkdir()
    torch.save(resnet18(num_classes=10).state_dict(), tmp_path / "ckpts" / "epoch_3.pt")
    return tmp_path


def names() -> dict[str, Any]:
    """What a reader has when the README's Python begins: a model, data, a loop, features and their labels."""
    inputs, labels = torch.randn(40, 5), torch.arange(40) % 10
    model = nn.Sequential()
    model.add_module("body", nn.Sequential(nn.Linear(5, 12), nn.ReLU()))
    model.add_module("fc", nn.Linear(12, 10))
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=20)
    features = torch.randn(40, 12)
    return {
        "model": model, "train": lambda *_: None, "train_loader": loader, "test_loader": loader,
        "features": features, "labels": labels, "layer": model.fc,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_readme_runs_from_top_to_bottom(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    known = names()
    commands: list[str] = []
    for step in [*STEPS, ""]:
        if step and is_command(step):
            commands.append(shortened(step))
            continue
        run_commands(commands, folder)
        commands = []
        exec(compile(step.replace("range(1, 101)", "range(1, 3)"), "README.md", "exec"), known)
    assert "CollapseMetrics(nc1_trace=" in capsys.readouterr().out
    assert len(known["frame"]) > 1000
    runs = {run.name: run for run in load(folder / "outputs")}
    assert all(run.state is State.COMPLETED for run in runs.values())
    assert len([name for name in runs if name.startswith("digits-resnet-")]) >= 5
    assert {"digits-torchvision_resnet18", "cifar10-torchvision_resnet18", "mine"} <= {
        name.rsplit("-mse", 1)[0] for name in runs
    }
