"""The command as a person types it: help, refusals and exit codes, sweeps, choices from one's own folder.

A process of its own takes seconds to import everything, so the quick tests call the command here, but for one.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from support import SMALL, Compose, train

from ncexp.cli import READER_GONE, help_text
from ncexp.cli import main as ncexp_main
from ncexp.cli.hydra_task import _as_it_is, _refuse_options
from ncexp.config import ConfigError
from ncexp.config.installed import home

QUICK = ["tracking.enabled=false", "outputs=outputs"]
#: Modules that take a tenth of a second or more to import.
HEAVY = {"torch", "hydra", "mlflow", "omegaconf", "rich", "pandas", "numpy", "matplotlib"}
HELP_COMMANDS = [line.split("  ")[1] for line in help_text().splitlines() if re.match(r"  ncexp( |$)", line)]


def ncexp(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ncexp", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


#: ncexp_here("loss=mse", ...) → exit code and what was printed on standard output and standard error.
Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ncexp_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """The command as `ncexp` carries it out, in this process and in the folder tmp_path."""

    def call(*arguments: str) -> tuple[int, str, str]:
        thresholds = gc.get_threshold()
        with monkeypatch.context() as patched:
            patched.chdir(tmp_path)
            patched.setattr(sys, "argv", ["ncexp", *arguments])
            patched.setenv("HYDRA_FULL_ERROR", "1")  # the command sets it; here it must not stay
            try:
                code = ncexp_main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                gc.set_threshold(*thresholds)
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("sys.argv = ['ncexp', '--help']; from ncexp.__main__ import main; main()", help_text()),
        (
            "from ncexp.__main__ import main; sys.argv = ['ncexp', '--shell-completion', 'ncexp loss=f']; main()",
            "loss=focal\n",
        ),
        pytest.param("import ncexp", "", marks=[pytest.mark.slow, pytest.mark.cold]),
    ],
    ids=["help", "completion", "import"],
)
def test_nothing_slow_is_imported_for(code: str, shown: str, tmp_path: Path) -> None:
    code = f"import sys; {code}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{shown}[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["statsu"], 2, r"statsu: expected a command or NAME=VALUE. Valid: cancel, .* Did you mean status\?"),
        (["status", "nonsense"], 2, "SWEEP: expected one of the sweeps under .*, got 'nonsense'"),
        (["simulate", "sed=1"], 2, r"sed: no such key. Valid: .* Did you mean seed\?"),
        (["prepare", "dataset=digit"], 2, r"dataset: no such choice, 'digit'. Valid: .* Did you mean digits\?"),
        (["prepare", "dataset=digits", "dataset.examples_per_class=500"], 2, "expected at most 173"),
        (["prepare", "dataset=digits", "dataset.example=5"], 2, "dataset.example: no such key"),
        (["prepare", "dataset=digits"], 0, r"^num_train +1400\nnum_test +397$"),
        (["-m", "seed=1,2", "hydra/launcher=joblib"], 2, "joblib"),
        (["seed=1", "hydra/launcher=local"], 2, "hydra/launcher: expected a sweep, .* Add -m."),
        (["seed=1", "hydra/sweeper=optuna"], 2, "hydra/sweeper: expected a sweep, .* Add -m."),
        (["--version"], 0, r"^ncexp \d+\.\d+"),
        (["train", "--help"], 0, "^ncexp: train a classifier"),
    ],
)
def test_command_of_another_kind_ends_in_one_message(
    arguments: list[str], code: int, shown: str, ncexp_here: Here, tmp_path: Path
) -> None:
    ended, printed, refused = ncexp_here(*arguments)
    assert ended == code, printed + refused
    assert re.search(shown, printed + refused), printed + refused
    assert "Traceback" not in refused
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", HELP_COMMANDS)
def test_help_commands_run_as_printed(command: str, tmp_path: Path) -> None:
    assert len(HELP_COMMANDS) == 5
    shortened = [] if "--cfg" in command else [*QUICK, "epochs=1"]
    done = ncexp(*shlex.split(command)[1:], *shortened, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lrr=0.1"], "optimizer.lrr: no such key. Valid: .*lr.* Did you mean lr\\?"),
        (["lr=0.1"], r"lr: no such key. Did you mean optimizer.lr\?"),
        (["--batch-size=5"], "--batch-size=5: expected NAME=VALUE. Write batch_size=5."),
        (["experiment=han2022/cifar10_resnett"], r"Did you mean han2022/cifar10_resnet\?"),
        (["analysis=robustnes"], r"analysis: no such choice, 'robustnes'. .* Did you mean robustness\?"),
        (["loss=mes"], "loss: no such choice, 'mes'. Valid: .*cross_entropy.* Did you mean mse\\?"),
        (["nonsense"], "nonsense"),
        (["loss=null"], "loss=null: expected overrides that Hydra composes"),
        (["seed=${epochs}", "epochs=${seed}"], "seed: expected a value, got none"),
        (["~evaluate_at.0"], "~evaluate_at.0: expected overrides that Hydra composes"),
        (["batch_size=79"], "batch_size: expected batches of two examples at least"),
        (["seed=0,1"], r"seed: expected one value, got 0,1. To train one run of each: ncexp -m seed=0,1. As a list"),
        (["-m", "hydra.sweeper.params.seed=1"], "hydra.sweeper.params: expected the values to sweep over as arguments"),
        (["-m", "+hydra.sweeper.params={seed:[1,2]}"], "Write them so: ncexp -m seed=1,2."),
        (
            ["-m", "optimizer.lr=interval(1e-3,1)"],
            r"expected values, as in optimizer.lr=1,2, got interval.* add hydra/sw",
        ),
        (["-m", "outputs=o_${hydra:runtime.cwd}"], r"outputs: expected a value, got \$\{...\}, which has none"),
    ],
)
def test_command_refuses_in_one_message(arguments: list[str], message: str, ncexp_here: Here, tmp_path: Path) -> None:
    flags = [word for word in arguments if word.startswith("-")]
    code, _, refused = ncexp_here(*flags, *SMALL, *arguments[len(flags) :])
    assert code == 2
    assert re.search(message, refused)
    assert "Traceback" not in refused
    assert refused.count("ncexp: ") == 1
    assert "Error executing job" not in refused
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["a.csv", "my (1).csv", "~/a?b.csv", "a%25b.csv", "a[1]{2}&c#d;ü.csv", "it's.csv", "a=b.csv"]
)
def test_path_of_a_table_reaches_the_configuration_as_it_is(path: str) -> None:
    word = _as_it_is(f"dataset.path={path}")
    assert OverridesParser.create().parse_override(word).value() == path
    assert OverridesParser.create().parse_override(_as_it_is(f"outputs={path}")).value() == path
    assert _as_it_is("dataset.path=a.csv,b.csv") == "dataset.path=a.csv,b.csv"  # a sweep
    assert _as_it_is("seed=a(1)") == "seed=a(1)"


@pytest.mark.parametrize(
    ("words", "repair"),
    [
        (["--epochs", "5"], "epochs=5"),
        (["--batch-size=5"], "batch_size=5"),
        (["--lr", "seed=1"], "lr=..."),
        (["--lr"], "lr=..."),
    ],
)
def test_option_of_nobody_is_answered_with_the_override(words: list[str], repair: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{words[0]}: expected NAME=VALUE. Write {repair}.")):
        _refuse_options(words)
    _refuse_options(["-m", "--multirun", "--config-dir", "x", "--cfg=job", "seed=1"])  # Hydra's own


@pytest.mark.slow
def test_choice_with_a_typo_is_named_with_its_line(ncexp_here: Here, tmp_path: Path) -> None:
    typo = tmp_path / "choices" / "architecture" / "theirs.yaml"
    typo.parent.mkdir(parents=True)
    typo.write_text("name: theirs\n_target_: [a\nb: :c\n")
    code, _, refused = ncexp_here("--config-dir", "choices", "architecture=theirs")
    assert (code, refused.count("\n")) == (2, 1)
    assert re.match(f"ncexp: {typo}, line 3: expected YAML, got a typo", refused)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=local"]], ids=["none", "local"])
@pytest.mark.parametrize(
    ("swept", "message"),
    [
        ("optimizer.lr=0.01,-1", "optimizer.lr: expected a value greater than 0, got -1"),
        ("batch_size=32,81", "batch_size: expected at most the 80 training examples, got 81"),
        ("optimizer.lr=0.01,${nowhere}", "optimizer.lr: expected a value, got none"),
    ],
)
def test_sweep_is_checked_whole_before_anything_is_trained(
    launcher: list[str], swept: str, message: str, tmp_path: Path
) -> None:
    done = ncexp("-m", *SMALL, *QUICK, swept, *launcher, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=local"]], ids=["none", "local"])
def test_sweep_of_measurings_is_checked_whole_before_anything_is_measured(
    launcher: list[str], composed: Compose, outputs: Path
) -> None:
    directory = train(composed())
    before = {path: path.stat().st_mtime_ns for path in outputs.rglob("*")}
    swept = ["analysis=[robustness]", "analysis.robustness.num_examples=5,-1"]
    done = ncexp("measure", "-m", str(directory.path), *swept, f"outputs={outputs}", *launcher, cwd=outputs)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "analysis.robustness.num_examples: expected a value greater than or equal to 1, got -1" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in outputs.rglob("*")} == before


@pytest.mark.slow
def test_command_sweeps_and_one_divergence_does_not_stop_it(tmp_path: Path) -> None:
    rates = "optimizer.lr=1e30,0.01"
    done = ncexp("-m", *SMALL, *QUICK, "architecture.batch_norm=false", "loss=mse,cross_entropy", rates, cwd=tmp_path)
    states = [json.loads(path.read_text())["state"] for path in sorted((tmp_path / "outputs").glob("*/status.json"))]
    assert sorted(states) == ["completed", "completed", "diverged", "diverged"], done.stdout + done.stderr
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.slow
def test_command_takes_choices_from_a_folder_of_ones_own(
    ncexp_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("ncexp.main.report_run", lambda *_, **__: None)  # figures take seconds
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
    code, printed, refused = ncexp_here(*arguments)
    assert code == 0, printed + refused
    (directory,) = (tmp_path / "outputs").iterdir()
    assert directory.name.startswith("gaussian_mixture-linear-mse_lr")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [(["--help"], READER_GONE), (["--version"], READER_GONE), (["list", "loss"], READER_GONE),
     (["list", "quantities"], 1),  # rich's, which prints the tables
     ([*SMALL, "outputs=outputs"], 0)],
)  # fmt: skip
def test_reader_that_has_enough_causes_no_traceback(words: list[str], code: int, tmp_path: Path) -> None:
    """As `ncexp list loss | head`, whose reader has ended. A training goes on: it was once recorded as failed."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ncexp", *words]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (code, "")
    states = [json.loads(path.read_text())["state"] for path in tmp_path.glob("outputs/*/status.json")]
    assert states == (["completed"] if code == 0 else [])


def test_closed_output_is_no_fault_and_no_later_file_takes_its_place() -> None:
    """As `ncexp ... >&-`: a completed training ended with a traceback and exit code 1."""
    code = (
        "import os, sys; from ncexp.cli import main; sys.argv = ['ncexp', '--version']; code = main(); "
        "os.write(2, os.readlink('/proc/self/fd/1').encode()); sys.exit(code)"
    )
    closed = ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, os.devnull)


@pytest.mark.slow
@pytest.mark.cold
def test_training_needs_no_locale_of_utf_8(tmp_path: Path) -> None:
    """LANG=de_DE on many clusters: λ in facts.json ended a training, and left its folder running."""
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    done = ncexp(*SMALL, *QUICK, cwd=tmp_path, **ascii_only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert r"\u03bb" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def _names_its_encoding(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {keyword.arg for keyword in call.keywords}
    if name in ("read_text", "run", "Popen"):
        return "encoding" in given or not (name == "read_text" or given & {"text", "universal_newlines"})
    if name == "write_text":  # ncexp.record's writes UTF-8
        return "encoding" in given or isinstance(call.func, ast.Name)
    words = [word.value for word in call.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    others = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("os", "Image", "tarfile")
    return name != "open" or others or "encoding" in given or any("b" in word for word in words)


def test_text_files_are_utf_8_whatever_the_locale_is() -> None:
    found = []
    for path in [*(home() / "ncexp").rglob("*.py"), *(home() / "hydra_plugins").rglob("*.py")]:
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        found += [f"{path}:{call.lineno}" for call in calls if not _names_its_encoding(call)]
    assert not found
