"""The command line: one subcommand a file, imported only when it is asked for, so that --help is instant."""

from __future__ import annotations

import gc
import io
import os
import select
import sys
from importlib import import_module

#: Word → what it does; the module of the same name has `main(arguments) -> exit code`.
COMMANDS: dict[str, str] = {
    "train": "the default: what the overrides describe; with -m a sweep",
    "measure": "RUN... [analysis=...]: more analyses; nothing is trained",
    "simulate": "the central path itself, from random features",
    "prepare": "dataset=NAME: download, check and decode data",
    "list": "what there is to choose from, with sizes",
    "runs": "what runs there are, and what each came to; also: ls",
    "report": "tables, grids of figures and a page of many runs",
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
#: What a sweep's worker starts; not for people.
WORKER = "run-frozen"
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

Groups (ncexp list GROUP)
  dataset       digits, gaussian_mixture, mnist, fashion_mnist, cifar10,
                cifar100, svhn, stl10, imagenet, unconstrained, table
                module dataset.factory=PACKAGE.NAME
  architecture  resnet, mlp, resnet18 ... 152, vgg11 ... 19,
                densenet40 ... 250, unconstrained_features
                torchvision architecture.model=NAME, timm likewise
                module architecture.factory=PACKAGE.NAME
  loss          mse_mean, mse, cross_entropy, rescaled_mse, label_smoothing,
                focal
  optimizer     adam by default, sgd, adamw, muon, sign, and sgd_digits, which
                is the main job's; optimizer/schedule=step, constant, cosine
  analysis      [collapse, decisions, decomposition, central_path], geometry,
                layers, robustness
  experiment    unconstrained_features, decay, quick/..., regimes/...,
                fashion_mnist/..., han2022/...
  sweep         quick, learning_rates, han2022, decay, regimes

Options of a run (ncexp --cfg job)
  seed  epochs  batch_size  evaluate_at  device  threads  outputs  compile=true
  precision=fp32|tf32|bf16  regime=plain|on_path|renormalized
  rerun=failed|all|none
  keep.snapshots=last|evaluated|[epochs]
  keep.checkpoints=last|zero_error|evaluated|[epochs]
  tracking.enabled  tracking.uri  tracking.experiment

Sweeps on a cluster, or here several runs at once (docs/cluster.md)
    ncexp -m ... hydra/launcher=slurm|local
    ncexp measure -m RUN... ... hydra/launcher=slurm|local

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
""".format(commands="\n".join(f"  {word:<11}{line}" for word, line in COMMANDS.items()))


def home() -> str:
    """The folder of conf/, docs/ and launch/: of an installed wheel the package, of a clone the repository's top."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return package if os.path.isdir(os.path.join(package, "conf")) else os.path.dirname(package)


HELP += f"\nFirst steps: docs/tutorial.md. The folders docs/ and launch/ are in\n{home()}\n"


def main() -> int:
    """Carry out the command in sys.argv; returns the exit code. Without a command's name it is `train`."""
    _prepare_streams()
    try:
        code = _command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return READER_GONE


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


def _command() -> int:
    gc.set_threshold(50_000)  # of torch's import the garbage collector takes a third, and finds nothing
    first, *rest = sys.argv[1:] or [""]
    first = ALIASES.get(first, first)
    if first in COMMANDS or first == WORKER:
        return _call(first, rest)
    if {"--help", "-h"} & {first, *rest}:
        print(HELP, end="")
        return 0
    if first == "--shell-completion":
        return int(import_module(f"{__name__}.shell_completion").main(rest))
    if first == "--version":
        print("ncexp", import_module("ncexp").__version__)
        return 0
    if first[:1].isalpha() and "=" not in first:
        return _unknown(first)
    return _call("train", sys.argv[1:])


def _call(word: str, arguments: list[str]) -> int:
    """A command's exit code; what it refuses is explained in one message, whichever command it is."""
    try:
        arguments = import_module(f"{__name__}.words").with_outputs(word, arguments)
        return int(import_module(f"{__name__}.{word.replace('-', '_')}").main(arguments))
    except Exception as error:
        from ncexp.cli.errors import explain_or_raise

        return explain_or_raise(error).exit_code
    except KeyboardInterrupt:
        from ncexp.record import State

        return State.INTERRUPTED.exit_code


def _unknown(word: str) -> int:
    from ncexp.cli.errors import explain_or_raise
    from ncexp.config import ConfigError, nearest

    unknown = ConfigError(f"{word}: expected a command or NAME=VALUE. {nearest(word, [*COMMANDS])}")
    return explain_or_raise(unknown).exit_code
