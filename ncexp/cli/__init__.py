"""The command line: a subcommand is a function, imported only when it is asked for, so that --help is instant."""

from __future__ import annotations

import gc
import io
import os
import re
import select
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

#: Word → what it does. Its function, arguments → exit code, is `main` of the module of the same name, or see BESIDE.
COMMANDS: dict[str, str] = {
    "train": "the default: what the overrides describe; with -m a sweep",
    "measure": "RUN... [analysis=...]: more analyses; nothing is trained",
    "simulate": "a flow of the theory, as the central path; nothing is trained",
    "prepare": "dataset=NAME: download, check and decode data",
    "list": "what there is to choose from, with sizes",
    "runs": "what runs there are, and what each came to; also: ls",
    "report": "tables, grids of figures and a page of many runs",
    "pictures": "RUN...: the simplex, cosines, spectra, layers; also animated",
    "compare": "runs beside one another, or each beside a reference",
    "reference": "what seeds of one configuration came to, to compare with",
    "export": "all numbers of runs as CSV or Parquet",
    "status": "how sweeps stand",
    "logs": "the last lines of the logs of runs that did not succeed",
    "cancel": "end a sweep's jobs; running ones save themselves first",
    "doctor": "would a sweep run here? disk, SLURM, data, MLflow",
    "sync": "upload to MLflow whatever it lacks",
    "ui": "MLflow's pages of the runs",
}
#: Other words for commands.
ALIASES = {"ls": "runs"}
#: Commands whose functions, of their own names, stand in another module; the last two are for processes that we start.
BESIDE = {"logs": "status", "cancel": "status", "export": "runs", "reference": "compare", "prepare": "simulate",
          "run_frozen": "started", "draw_live": "started"}  # fmt: skip
#: Those that Hydra composes a configuration for.
COMPOSED = ("train", "measure")
#: Exit code where what read our output has ended: as of a program that SIGPIPE ends.
READER_GONE = 141

HELP = """\
ncexp: train a classifier past zero error, watch neural collapse, record every
metric and every term of the MSE decomposition, draw the paper's figures.

  ncexp                     the main job: a small ResNet on handwritten digits,
                            MSE loss, 350 epochs
  ncexp loss=cross_entropy optimizer=sgd optimizer.lr=0.02 seed=3
                            one choice per group, any value by its path
  ncexp -m loss=mse,cross_entropy optimizer=sgd optimizer.lr=0.01,0.05
                            every combination, one run each
  ncexp architecture=mlp dataset=gaussian_mixture dataset.separation=8
                            another network on another dataset
  ncexp --cfg job           the whole configuration, without running it

Commands (ncexp COMMAND --help)
{commands}

Groups, and what may be chosen in each (ncexp list GROUP has a line for each)
{groups}

Options of a run (ncexp --cfg job)
  seed  epochs  batch_size  evaluate_at  device  threads  outputs  compile=true
  precision=fp32|tf32|bf16  regime=plain|on_path|renormalized
  rerun=failed|all|none
  keep.snapshots=last|evaluated|[epochs]
  keep.checkpoints=last|zero_error|evaluated|[epochs]
  tracking.enabled  tracking.uri  tracking.experiment  objective  direction

Sweeps on a cluster, or here several runs at once (docs/cluster.md)
    ncexp -m ... hydra/launcher={launchers}
    ncexp measure -m RUN... ... hydra/launcher={launchers}

A start from weights in a file, of any architecture (docs/anybody.md)
    ncexp architecture.weights=FILE architecture.freeze=backbone|PATTERN

A search by Optuna instead of every combination (docs/search.md)
    ncexp -m hydra/sweeper=optuna objective=test/error
             'optimizer.lr=interval(1e-3,1)' loss=mse,cross_entropy

Checkpoints of another training (docs/anybody.md)
    ncexp measure checkpoints='ckpts/*.pt' dataset=... architecture=...
                  loss=... optimizer.weight_decay=...

Choices of one's own (docs/extending.md)
    ncexp --config-dir my_choices architecture=my_network

Runs lie in outputs/ (outputs=FOLDER: elsewhere), one directory each, named by
what they are and a key of what determines their weights. The same command
again goes on where it was stopped, or shows what is there. A RUN is a folder,
a sweep, a name, a key, the beginning of either, or a glob.
Hydra's own options: ncexp --hydra-help.
Tab completion in bash and zsh: eval "$(ncexp --shell-completion)"

First steps: docs/tutorial.md. The folders docs/ and launch/ are in
{home}
"""


def help_text() -> str:
    """The text of `ncexp --help`, with every choice that conf/ has; of experiments that lie in a folder the folder."""
    from ncexp.config.installed import GROUPS, choices, home

    lines = []
    for group in GROUPS:
        words = dict.fromkeys(_choice(group, name, path) for name, path in choices(group).items())
        lines += textwrap.wrap(", ".join(words), 79, initial_indent=f"  {group:<20}", subsequent_indent=" " * 22)
    return HELP.format(
        commands="\n".join(f"  {word:<11}{line}" for word, line in COMMANDS.items()),
        groups="\n".join(lines).replace("\u00a0", " "),
        launchers="|".join(choices("hydra/launcher")),
        home=home(),
    )


def _choice(group: str, name: str, path: Path) -> str:
    """A choice with the keys that have to be set beside it, which no line break may part from it."""
    folder, inside, _ = name.partition("/")
    needed = re.findall(r"^(\w+): \?\?\?", path.read_text(encoding="utf-8"), re.MULTILINE)
    return f"{folder}/..." if inside else "\u00a0".join([name, *(f"{group}.{key}=..." for key in needed)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command, that of sys.argv unless one is given; returns the exit code.

    Without a command's name it is `train`. What a command refuses is explained in one message, whichever it is.
    """
    _prepare_streams()
    gc.set_threshold(50_000)  # of torch's import the garbage collector takes a third, and finds nothing
    try:
        word, words = _split([*(sys.argv[1:] if arguments is None else arguments)])
        if word in ("--help", "--version"):
            version = import_module("ncexp").__version__
            print(help_text() if word == "--help" else f"ncexp {version}\n", end="")
            code = 0
        elif word in COMPOSED:
            from ncexp.cli.hydra_task import compose_and_work, measuring
            from ncexp.record import exit_code

            code = exit_code(compose_and_work(*(("config", words) if word == "train" else measuring(words))))
        else:
            module = import_module(f"{__name__}.{BESIDE.get(word, word)}")
            code = int(getattr(module, word if word in BESIDE else "main")(words))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return READER_GONE
    except Exception as error:
        return _refused(error)
    except KeyboardInterrupt:
        from ncexp.record import State

        return State.INTERRUPTED.exit_code


def _refused(error: Exception) -> int:
    """Print why a command refused; returns its exit code. Raises any other exception again: a defect of ours."""
    from ncexp.config.composing import REFUSALS
    from ncexp.launching import task
    from ncexp.record import State

    if (state := task.refuse(error, task.REFUSALS | dict.fromkeys(REFUSALS, State.REFUSED))) is None:
        raise error
    return state.exit_code


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """The module that carries out the command, and its arguments. Raises ConfigError for an unknown command."""
    first, *rest = arguments or [""]
    first = ALIASES.get(first, first)
    if {"--help", "-h"} & {first, *rest} and first not in {*COMMANDS} - {"train"}:
        return "--help", []
    if first in ("--version", "--shell-completion", "run-frozen", "draw-live"):
        return first if first == "--version" else first.strip("-").replace("-", "_"), rest
    if first not in COMMANDS:
        if first[:1].isalpha() and "=" not in first:
            from ncexp.config import ConfigError, nearest

            raise ConfigError(f"{first}: expected a command or NAME=VALUE. {nearest(first, COMMANDS)}")
        first, rest = "train", arguments
    return first, import_module(f"{__name__}.words").with_outputs(first, rest)


def _prepare_streams() -> None:
    """Have output that nobody takes, or that the locale has no letters for, stop nothing: ncexp ... >&-, LANG=de_DE."""
    # A file that is opened later would be descriptor 1, and what C code prints would end up in it.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error has it


def _output_is_closed() -> bool:
    """Whether what reads our output has ended, as in `ncexp list loss | head`. What is left to print is dropped."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
    return closed
