"""Hydra composes, ncexp works: the bridge between the two, for `train` and `measure` alike."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ncexp.config import ConfigError, check
from ncexp.config.composing import REFUSALS, as_mapping, composing, config_directory, quoted, refusals_named
from ncexp.launching.table import TYPED, print_end
from ncexp.launching.task import attempt, returned
from ncexp.record import State
from ncexp.record.console import process_console

#: Keys whose values are paths of files of one's own.
PATHS = ("dataset.path", "dataset.test_path", "dataset.root", "outputs")


def compose_and_work(name: str, arguments: Sequence[str]) -> list[State]:
    """Work on what conf/<name>.yaml with these arguments describes, one task or (-m) a sweep of them.

    Returns the state that each ended in; of a sweep that is not waited for, none. Raises what REFUSALS lists for a
    configuration that is refused, and SlurmUnavailable.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions to us instead of printing a part of them
    _refuse_options(arguments)
    arguments = [_path_as_it_is(word) for word in arguments]
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


def _path_as_it_is(word: str) -> str:
    """In quotes where it is the path of a file that Hydra's grammar has no words for: ``data (1).csv``, ``~/a.csv``."""
    name, _, value = word.partition("=")
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
