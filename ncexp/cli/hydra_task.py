"""Hydra composes, ncexp works: the bridge between the two, for `train` and `measure` alike; the words of `measure`."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ncexp.cli.words import command_parser
from ncexp.config import ConfigError, check
from ncexp.config.composing import (
    REFUSALS,
    as_mapping,
    compose_mapping,
    composing,
    config_directory,
    quoted,
    refusals_named,
)
from ncexp.launching.table import TYPED, print_end
from ncexp.launching.task import attempt, returned
from ncexp.record import State, named_runs
from ncexp.record.console import process_console

HELP = """\
Measure stored runs further, from the snapshots and weights that they kept.
Without analysis=...: what each run was trained with, at the epochs that lack
it. All is checked first; one run's failure stops no other; the same command
again does what is left.

  ncexp measure checkpoints='ckpts/*.pt' dataset=cifar10 loss=mse \\
    architecture=torchvision architecture.model=resnet18 \\
    optimizer.weight_decay=5e-4

measures what another training left, into a run directory like any other
(docs/anybody.md).
"""

#: Of `measure checkpoints=`: keys whose values are paths, patterns or names in files of others.
PATTERNS = ("checkpoints", "checkpoint.epoch", "checkpoint.key", "checkpoint.prefix")
#: Keys whose values are paths of files of one's own.
PATHS = ("dataset.path", "dataset.test_path", "dataset.root", "architecture.weights", "outputs")


def compose_and_work(name: str, arguments: Sequence[str]) -> list[State]:
    """Work on what conf/<name>.yaml with these arguments describes, one task or (-m) a sweep of them.

    Returns the state that each ended in; of a sweep that is not waited for, none. Raises what REFUSALS lists for a
    configuration that is refused, and SlurmUnavailable.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions to us instead of printing a part of them
    _refuse_options(arguments)
    arguments = [_as_it_is(word) for word in arguments]
    TYPED[:], sys.argv[1:] = sys.argv[1:], arguments
    task = _Task()
    try:
        with composing(arguments):
            hydra.main(version_base="1.3", config_path=str(config_directory()), config_name=name)(task)()
    except Exception:
        if task.composed:  # it is what the work ran into
            raise
        with refusals_named(arguments):
            raise
    if task.refusal is not None:
        raise task.refusal
    return task.states


def _refuse_options(arguments: Sequence[str]) -> None:
    """Hydra would answer an option that is none of its own with the list of those that are."""
    known = get_args_parser()._option_string_actions
    for word, following in itertools.pairwise([*arguments, "..."]):
        name, _, value = word.partition("=")
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            value = value or (following if "=" not in following else "...")
            raise ConfigError(f"{word}: expected NAME=VALUE. Write {name[2:].replace('-', '_')}={value}.")


def _as_it_is(word: str) -> str:
    """In quotes where Hydra's grammar reads a path or pattern otherwise, or not at all: ``data (1).csv``, ``*.pt``."""
    name, _, value = word.partition("=")
    if name in PATTERNS and value != "null" and value[:1] not in "'\"":
        return f"{name}={quoted(value)}"
    if name in PATHS:
        try:
            OverridesParser.create().parse_override(word)
        except HydraException:
            return f"{name}={quoted(value)}"
    return word


class _Task:
    """What Hydra calls with one composed configuration, and our launchers with the states of a whole sweep."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.composed = False
        #: Raised later: of an exception in a task Hydra prints a line of its own beside ours.
        self.refusal: Exception | None = None

    def __call__(self, config: DictConfig) -> Any:
        self.composed = True
        try:
            _refuse_launcher()
            words: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # as they were typed
            raw = as_mapping(config, words)
        except REFUSALS as error:
            self.refusal = error
            return None
        console = process_console()
        self.states.append(state := attempt(raw, console))
        if raw.keys() & {"run", "checkpoints"} or state is State.REFUSED:
            print_end(console, self.states)
            return None
        task = check(raw)
        print_end(console, self.states, task.outputs, task.directory if state is State.COMPLETED else None)
        return returned(task, state)

    def finished(self, states: Iterable[State]) -> None:
        """The sweep is through, or handed over."""
        self.states.extend(states)


def _refuse_launcher() -> None:
    """Hydra heeds launcher and sweeper only in a sweep; without one the run would silently be trained here."""
    configuration = HydraConfig.get()
    if configuration.mode == RunMode.MULTIRUN:
        return
    for group in ("hydra/launcher", "hydra/sweeper"):
        if (choice := configuration.runtime.choices[group]) not in ("basic", "ncexp"):
            raise ConfigError(f"{group}: expected a sweep, of one run at least, got {choice!r} without one. Add -m.")


def measuring(arguments: list[str]) -> tuple[str, list[str]]:
    """`ncexp measure`: which configuration is composed, and with which overrides; of stored runs as a sweep of them."""
    parser = command_parser("measure", HELP)
    parser.add_argument(
        "words", nargs="*", metavar="RUN | NAME=VALUE",
        help="a run's directory, name or key, a beginning of either, a glob; a sweep; a folder of runs; and overrides: "
        "analysis=[robustness,layers] device=cpu rerun=all hydra/launcher=slurm",
    )  # fmt: skip
    parser.add_argument("-m", "--multirun", action="store_true", help="not needed: RUNs are measured as a sweep")
    parser.add_argument("--config-dir", help="a folder of choices of one's own")
    given = parser.parse_intermixed_args(arguments)
    folder = ["--config-dir", given.config_dir] if given.config_dir else []
    if any(word.startswith("checkpoints=") for word in given.words):
        _refuse_beside_checkpoints(given.words, given.multirun)
        return "checkpoints", [*folder, *given.words]
    overrides = [word for word in given.words if _is_override(word)]
    runs = _named_runs([word for word in given.words if word not in overrides], overrides)
    chosen = "run=" + ",".join(quoted(str(run)) for run in runs)
    return "measure", [*folder, "-m", *overrides, chosen]


def _is_override(word: str) -> bool:
    return "=" in word or word.startswith("~")


def _refuse_beside_checkpoints(words: Sequence[str], multirun: bool) -> None:
    """Raises ConfigError for runs beside the files of another training, and for a sweep."""
    if others := [word for word in words if not _is_override(word)]:
        raise ConfigError(f"RUN: expected none beside checkpoints=..., got {others[0]}. Measure stored runs apart.")
    if multirun or any(word.startswith("hydra/launcher=") for word in words):
        raise ConfigError(
            "checkpoints: expected one set of files, measured here, got a sweep. Leave out -m and launcher."
        )


def _named_runs(words: Sequence[str], overrides: Sequence[str]) -> list[Path]:
    """The run directories that RUN... mean, each once. Raises ValueError where there is none."""
    if not words:
        raise ConfigError(
            "RUN: expected a run's directory, name or key, a sweep, or a folder of runs, got none. `ncexp measure "
            "outputs` measures all runs there."
        )
    where = [override for override in overrides if override.startswith("outputs=")]
    outputs = Path(compose_mapping("measure", [*where, "run=none"])["outputs"])
    return named_runs(words, outputs)
