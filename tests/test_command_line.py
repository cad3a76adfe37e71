"""The command as a person types it: help, refusals and exit codes, sweeps, choices from one's own folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import SMALL

from ncexp.__main__ import HELP

QUICK = ["tracking.enabled=false", "outputs=outputs"]
HELP_COMMANDS = [line.split("  ")[1] for line in HELP.splitlines() if re.match(r"  ncexp( |$)", line)]


def ncexp(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ncexp", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_imports_nothing_slow(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['ncexp', '--help']; from ncexp.__main__ import main; main(); "
        "print(sorted({'torch', 'hydra', 'mlflow', 'pydantic', 'omegaconf'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout == HELP + "[]\n"


def test_help_shows_five_commands() -> None:
    assert len(HELP_COMMANDS) == 5


@pytest.mark.slow
@pytest.mark.parametrize("command", HELP_COMMANDS)
def test_help_commands_run_as_printed(command: str, tmp_path: Path) -> None:
    shortened = [] if "--cfg" in command else [*QUICK, "epochs=1"]
    done = ncexp(*shlex.split(command)[1:], *shortened, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lrr=0.1"], "optimizer.lrr: no such key. Valid: .*lr.* Did you mean lr\\?"),
        (["loss=mes"], "loss: no such choice, 'mes'. Valid: .*cross_entropy.* Did you mean mse\\?"),
        (["optimizer.lr=0"], "optimizer.lr: expected a value greater than 0, got 0"),
        (["nonsense"], "nonsense"),
        (["loss=null"], "loss|None"),
    ],
)
def test_command_refuses_in_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = ncexp(*SMALL, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_command_sweeps_and_one_divergence_does_not_stop_it(tmp_path: Path) -> None:
    rates = "optimizer.lr=1e30,0.01"
    done = ncexp("-m", *SMALL, *QUICK, "architecture.batch_norm=false", "loss=mse,cross_entropy", rates, cwd=tmp_path)
    states = [json.loads(path.read_text())["state"] for path in sorted((tmp_path / "outputs").glob("*/status.json"))]
    assert sorted(states) == ["completed", "completed", "diverged", "diverged"], done.stdout + done.stderr
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_command_takes_choices_from_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "choices" / "architecture").mkdir(parents=True)
    (tmp_path / "choices" / "architecture" / "linear.yaml").write_text(
        "name: linear\n_target_: their_networks.linear\nscale: 2.0\n"
    )
    (tmp_path / "their_networks.py").write_text(
        "from torch import nn\n"
        "from ncexp.architectures import Network\n"
        "def linear(input_shape, num_classes, *, scale: float):\n"
        "    return Network(nn.Identity(), input_shape[0], num_classes)\n"
    )
    base = [override for override in SMALL if not override.startswith("architecture")]
    arguments = ["--config-dir", "choices", "architecture=linear", *base, *QUICK]
    done = ncexp(*arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    (directory,) = (tmp_path / "outputs").iterdir()
    assert directory.name.startswith("gaussian_mixture-linear-mse_lr")
