"""A task: one training, or one measuring of a stored run. How it is checked, and carried out wherever it is."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ncexp.config import ConfigError, MeasureConfig, RunConfig, check, check_measurement, check_outputs
from ncexp.config.composing import explain
from ncexp.launching.slurm import SlurmUnavailable
from ncexp.record import Busy, DamagedFile, State, TaskDirectory, read_run
from ncexp.record.console import is_first_process, literal_console
from ncexp.record.objective import check_objectives, values_of
from ncexp.record.tensor_file import UnusableFile
from ncexp.record.text import say
from ncexp.tracking import check_uri, follow

if TYPE_CHECKING:
    from ncexp.training import StopRequest

Task = RunConfig | MeasureConfig
#: What a person can do something about → the state that it stands for.
REFUSALS: dict[type[Exception], State] = {
    SlurmUnavailable: State.FAILED,
    Busy: State.BUSY,
    DamagedFile: State.DAMAGED,
    UnusableFile: State.FAILED,
    ConfigError: State.REFUSED,
}


def check_task(raw: Mapping[str, Any]) -> Task:
    """A composed configuration, checked: one that names a stored run is a measuring. Raises ConfigError."""
    if "run" in raw:
        return check_measurement(raw)
    config = check(raw)
    check_objectives(config.objective)
    check_uri(config.tracking["uri"])
    check_outputs(config.outputs)
    return config


def run_of(task: Task) -> Path:
    """The run directory that is trained or measured."""
    return task.run if isinstance(task, MeasureConfig) else task.directory


def returned(task: Task, state: State) -> float | list[float] | None:
    """What sweepers of Hydra's interface get of a task: its objective, nan where it has none; None: none was asked for.

    Several objectives are a list. Raises ConfigError for an objective that the run cannot have.
    """
    if isinstance(task, MeasureConfig) or not (objectives := check_objectives(task.objective)):
        return None
    values = values_of(read_run(task.directory), objectives) if state is State.COMPLETED else None
    values = values or [math.nan] * len(objectives)
    return values if isinstance(task.objective, list) else values[0]


def refuse(error: Exception, refusals: Mapping[type[Exception], State] = REFUSALS) -> State | None:
    """Print why a command or a task is refused; returns the state that stands for it, None for a defect of ours."""
    state = next((state for kind, state in refusals.items() if isinstance(error, kind)), None)
    if state is not None:
        say(f"ncexp: {explain(error)}", sys.stderr)
    return state


def attempt(
    raw: Mapping[str, Any],
    console: Console,
    stop: StopRequest | None = None,
    directory: TaskDirectory | None = None,
    draws: bool = True,
) -> State:
    """Train, or measure a run or the checkpoints of another training; returns the state that it ends in.

    Why it failed is printed, and stops nothing that comes after it. stop, draws: as for `ncexp.main.run`; directory: of
    a task of a sweep, which looks there for the end of each: a failure that is not noted there yet is noted.
    """
    try:
        is_known = is_first_process() and "checkpoints" not in raw  # else `measure_checkpoints` says which run it is
        with follow(raw, _run_of(raw), console) if is_known else nullcontext():
            from ncexp.main import measure, measure_checkpoints, run  # torch takes seconds

            work = measure if "run" in raw else measure_checkpoints if "checkpoints" in raw else run
            return work(raw, console, stop, draws)
    except Exception as error:
        state, status = refuse(error), directory.noted() if directory else {}
        noted = (status.get("state"), status.get("pid")) == (State.FAILED, os.getpid())
        if state is None and not (noted and "epoch" in status):  # a training has its traceback in its log
            literal_console().print_exception()
        if directory is None or state is State.BUSY:
            return state or State.FAILED
        if not noted and is_first_process():
            directory.set_status(State.FAILED, message=f"{type(error).__name__}: {error}")
        return State.FAILED


def _run_of(raw: Mapping[str, Any]) -> Iterator[Path]:
    """The run directory, once it is known what it is called, which takes seconds: torch is imported for it."""
    yield run_of(check_task(raw))
