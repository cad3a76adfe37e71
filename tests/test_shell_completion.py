"""`ncexp --shell-completion`: what the Tab key offers, by itself, in bash and in zsh."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import PATIENCE_S

from ncexp.cli import COMMANDS
from ncexp.cli.list import WHAT
from ncexp.cli.shell_completion import candidates

RUNS = ["digits-mlp-mse_lr0.1_seed0_0123456789", "digits-vgg-mse_lr0.1_seed0_abcdef0123"]


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory's folder of two runs and a sweep of one of them."""
    monkeypatch.chdir(tmp_path)
    for name in RUNS:
        (tmp_path / "outputs" / name).mkdir(parents=True)
        (tmp_path / "outputs" / name / "config.yaml").touch()
    (tmp_path / "outputs" / "not_a_run").mkdir()
    sweep = tmp_path / "outputs" / "sweeps" / "quick_1234"
    sweep.mkdir(parents=True)
    (sweep / "manifest.jsonl").write_text(json.dumps({"num": 0, "key": "0123456789"}) + "\n")
    return tmp_path / "outputs"


def test_first_word_is_a_command_a_group_or_a_key() -> None:
    assert set(COMMANDS) < set(candidates("ncexp "))
    assert "status" not in candidates("ncexp seed=1 ")
    assert set(candidates("ncexp list ")) == set(WHAT)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ncexp st", ["status"]),
        ("ncexp se", ["seed="]),
        ("ncexp o", ["objective=", "optimizer.", "optimizer/schedule=", "optimizer=", "outputs="]),
        ("ncexp loss=m", ["loss=mse", "loss=mse_mean"]),
        ("ncexp -m loss=mse,f", ["loss=mse,focal"]),
        ("ncexp analysis=[collapse,la", ["analysis=[collapse,layers"]),
        ("ncexp optimizer/schedule=c", ["optimizer/schedule=constant", "optimizer/schedule=cosine"]),
        ("ncexp hydra/launcher=", ["hydra/launcher=local", "hydra/launcher=slurm"]),
        ("ncexp hydra/launcher=slurm hydra.launcher.part", ["hydra.launcher.partition="]),
        ("ncexp experiment=han2022/svhn_v", ["experiment=han2022/svhn_vgg"]),
        ("ncexp optimizer.l", ["optimizer.lr="]),
        ("ncexp architecture=mlp architecture.we", ["architecture.weights=", "architecture.weights_sha256="]),
        ("ncexp architecture.fr", ["architecture.freeze="]),
        ("ncexp architecture=mlp architecture.freeze=b", ["architecture.freeze=backbone"]),
        ("ncexp architecture=mlp architecture.head=n", ["architecture.head=no_bias", "architecture.head=normalized"]),
        ("ncexp architecture=vgg11 architecture.head=", ["architecture.head=average"]),
        ("ncexp optimizer.schedule.de", ["optimizer.schedule.decays="]),
        ("ncexp optimizer=adam optimizer.momentum", []),
        ("ncexp dataset=gaussian_mixture dataset.sep", ["dataset.separation="]),
        ("ncexp analysis=[robustness] analysis.robustness.num", ["analysis.robustness.num_examples="]),
        ("ncexp experiment=han2022/mnist_densenet architecture.gr", ["architecture.growth_rate="]),
        ("ncexp measure checkpoints=x.pt optimizer.m", ["optimizer.momentum="]),
        ("ncexp keep.", ["keep.checkpoints=", "keep.snapshots="]),
        ("ncexp compile=", ["compile=false"]),
        ("ncexp epochs=", ["epochs=350"]),
        ("ncexp prepare dataset=fa", ["dataset=fashion_mnist"]),
        ("ncexp prepare ", ["dataset.", "dataset="]),
        ("ncexp simulate simulation.num_cl", ["simulation.num_classes="]),
        ("ncexp measure checkpoints=x.pt checkpoint.", ["checkpoint.epoch=", "checkpoint.key=", "checkpoint.prefix="]),
        ("ncexp list loss fo", ["focal"]),
        ("ncexp -m loss=mse,focal optimizer.sc", ["optimizer.schedule."]),
        ("ncexp loss=mes optimizer.lr", []),
        ("ncexp nonsense.", []),
        ("ncexp nonsense=", []),
        ("ncexp doctor ", []),
    ],
)
def test_overrides_are_completed(line: str, offered: list[str]) -> None:
    assert candidates(line) == offered


def test_choice_of_a_folder_of_ones_own_is_offered(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "pull.yaml").write_text("name: pull\n_target_: pull.pull\nstrength: 1.0\n")
    assert candidates(f"ncexp --config-dir {tmp_path} loss=p") == ["loss=pull"]
    assert candidates(f"ncexp --config-dir {tmp_path} loss=pull loss.s") == ["loss.strength="]


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("compare digits-v", RUNS[1:]),
        ("compare ", RUNS),
        ("reference d", RUNS),
        ("runs d", RUNS),
        ("ls d", RUNS),
        ("measure digits-m", RUNS[:1]),
        ("measure q", ["quick_1234"]),
        ("status ", ["last", "quick_1234"]),
        ("cancel q", ["quick_1234"]),
        ("logs ", ["last", "quick_1234"]),
        ("logs quick_1234 ", ["0123456789"]),
        ("logs last 0", ["0123456789"]),
        ("report ", ["outputs/", *(f"outputs/{name}/" for name in RUNS)]),
        ("export outputs/digits-v", [f"outputs/{RUNS[1]}/"]),
    ],
)
def test_runs_and_sweeps_are_offered(line: str, offered: list[str]) -> None:
    assert candidates(f"ncexp {line}") == offered


def test_runs_are_searched_where_the_command_searches(outputs: Path) -> None:
    outputs.rename(outputs.with_name("elsewhere"))
    for words in ("measure outputs=elsewhere", "compare --outputs elsewhere", "runs outputs=elsewhere"):
        assert candidates(f"ncexp {words} digits-m") == [RUNS[0]]
    assert candidates("ncexp status --outputs elsewhere q") == ["quick_1234"]
    assert candidates("ncexp compare digits-m") == []


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The executable `ncexp`, as the shell finds it."""
    path = tmp_path / "ncexp"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ncexp "$@"\n')
    path.chmod(0o755)
    return path


#: As bash does it before it calls the function: "=" ends a word, unless somebody took it out of COMP_WORDBREAKS.
PRESS_TAB = """
eval "$({command} --shell-completion)"
complete -p ncexp
COMP_LINE='{line}' COMP_POINT={point} COMP_WORDBREAKS=$' \\n{breaks}'
_ncexp_completion {command} '{word}' ''
printf '<%s>\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "breaks", "word", "offered"),
    [
        ("ncexp loss=f", "=", "f", "<focal>"),
        ("ncexp loss=f", "", "loss=f", "<loss=focal>"),
        ("ncexp analysis=[collapse,la", "=", "[collapse,la", "<[collapse,layers>"),
        ("ncexp nonsense.", "=", "nonsense.", "<>"),
        ("ncexp --config-dir broken loss=typo loss.", "=", "loss.", "<>"),
    ],
)
def test_bash_completes(line: str, breaks: str, word: str, offered: str, tmp_path: Path, command: Path) -> None:
    (tmp_path / "broken" / "loss").mkdir(parents=True)
    (tmp_path / "broken" / "loss" / "typo.yaml").write_text("[")
    script = PRESS_TAB.format(command=command, line=line, point=len(line), breaks=breaks, word=word)
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == [offered], done.stdout
    assert "-F _ncexp_completion ncexp" in done.stdout


#: What is typed before the Tab key → the line after it.
IN_ZSH = {
    "ncexp loss=f": "ncexp loss=focal ",
    "ncexp optimizer.mom": "ncexp optimizer.momentum=",
    "ncexp analysis=\\[collapse,la": "ncexp analysis=\\[collapse,layers ",
    "ncexp report fold": "ncexp report folder/",
}


@pytest.mark.slow
@pytest.mark.usefixtures("command")
@pytest.mark.skipif(shutil.which("zsh") is None and "CI" not in os.environ, reason="zsh is not installed")
def test_zsh_completes(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    terminal, other_end = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=tmp_path,
        env={**os.environ, "TERM": "dumb", "ZDOTDIR": str(tmp_path)},  # no escape sequences; its files go here
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
    )

    def typed(text: str, until: str) -> None:
        os.write(terminal, text.encode())
        printed, began = "", time.monotonic()
        while until not in printed:
            assert time.monotonic() - began < PATIENCE_S, f"expected {until!r}, got {printed!r}"
            if select.select([terminal], [], [], 1.0)[0]:
                printed += os.read(terminal, 4096).decode()

    try:
        typed('PATH=.:$PATH; eval "$(ncexp --shell-completion)"; print rea""dy\n', until="ready")
        for line, completed in IN_ZSH.items():
            typed(f"{line}\t", until=completed)
            typed('\x15print cle""ared\n', until="cleared")  # Ctrl-U first
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
        os.close(other_end)
