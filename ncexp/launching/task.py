"""A task: one training, or one measuring of a stored run. What a sweep knows of it, and how it is carried out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ncexp.config import ConfigError, MeasureConfig, RunConfig, check, check_measurement, check_outputs
from ncexp.launching.console import is_first_process, literal_console
from ncexp.record import Busy, DamagedFile, State
from ncexp.record.tensor_file import UnusableFile
from ncexp.record.text import say
from ncexp.tracking import check_uri, follow

if TYPE_CHECKING:
    from ncexp.training import StopRequest

Task = RunConfig | MeasureConfig


def check_task(raw: Mapping[str, Any]) -> Task:
    """A composed configuration, checked: one that names a stored run is a measuring. Raises ConfigError."""
    if "run" in raw:
        return check_measurement(raw)
    config = check(raw)
    check_uri(config.tracking["uri"])
    check_outputs(config.outputs)
    return config


def run_of(task: Task) -> Path:
    """The run directory that is trained or measured."""
    return task.run if isinstance(task, MeasureConfig) else task.directory


def measuring_of(training: RunConfig) -> MeasureConfig:
    """The measuring of everything that a training's configuration asks for."""
    raw = {
        "run": str(training.directory),
        "analysis": training.raw.get("analysis"),
        "device": training.device,
        "outputs": str(training.outputs),
        "rerun": "missing",
    }
    return check_measurement(raw)


def describe_tasks(tasks: Sequence[Task]) -> str:
    """What the tasks have in common, in words: the name of a sweep for which none was chosen."""
    trainings = [task for task in tasks if isinstance(task, RunConfig)]
    if not trainings:
        return "-".join(["measure", *sorted({name for task in tasks for name in task.analyses})])
    words = [
        sorted({component(one).name for one in trainings})
        for component in (lambda one: one.dataset, lambda one: one.architecture, lambda one: one.loss)
    ]
    return "-".join(names[0] if len(names) == 1 else f"{len(names)}_{names[0]}" for names in words)


def work_on(raw: Mapping[str, Any], console: Console, stop: StopRequest | None = None) -> State:
    """Train, or measure a run or the checkpoints of another training; returns the state that it ends in.

    stop, and what is raised: as for `ncexp.main.run`.
    """
    is_known = is_first_process() and "checkpoints" not in raw  # else `measure_checkpoints` says which run it is
    with follow(raw, _run_of(raw), console) if is_known else nullcontext():
        from ncexp.main import measure, measure_checkpoints, run  # torch takes seconds

        work = measure if "run" in raw else measure_checkpoints if "checkpoints" in raw else run
        return work(raw, console, stop)


def _run_of(raw: Mapping[str, Any]) -> Iterator[Path]:
    """The run directory, once it is known what it is called, which takes seconds: torch is imported for it."""
    yield run_of(check_task(raw))


def attempt(raw: Mapping[str, Any], console: Console) -> State:
    """As `work_on`, but why it failed is printed, and stops nothing that comes after it."""
    try:
        return work_on(raw, console)
    except ConfigError as error:
        say(f"ncexp: {error}", sys.stderr)
        return State.REFUSED
    except DamagedFile as error:
        say(f"ncexp: {error}", sys.stderr)
        return State.DAMAGED
    except UnusableFile as error:
        say(f"ncexp: {error}", sys.stderr)
        return State.FAILED
    except Busy as error:
        say(f"ncexp: {error}", sys.stderr)
        return State.BUSY
    except Exception:
        literal_console().print_exception()
        return State.FAILED
