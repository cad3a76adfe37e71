"""How many threads torch computes with: another number gives other roundings, so a run keeps the one it began with."""

from __future__ import annotations

import os
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from ncexp.record import RunDirectory, read_environment
from ncexp.training.loop import Training

#: Floating-point operations of a training step below which `auto` is one thread on a CPU. Such a step is hundreds of
#: operations of microseconds each, after each of which threads wait for each other: little is won on an idle machine,
#: and where others work too, every wait is for a thread that does not run (docs/performance.md).
SMALL_STEP = 2e9
#: What torch chose in this process, from OMP_NUM_THREADS or the processors.
_DEFAULT = torch.get_num_threads()


def check_threads(asked: int | Literal["auto"]) -> None:
    """Raises ValueError where more are asked for than there are processors."""
    allowed = len(os.sched_getaffinity(0))
    if asked != "auto" and asked > allowed:
        raise ValueError(f"threads: expected at most the {allowed} processors of this machine, got {asked}.")


def set_threads(asked: int | Literal["auto"], training: Training, directory: RunDirectory) -> str:
    """Set torch's number of threads for a run; returns a sentence for its log.

    A run that has begun, on whatever machine, goes on with the number that it began with. Else asked; "auto" is one for
    a step of fewer than SMALL_STEP operations on a CPU, and what torch chose otherwise.
    """
    if (noted := _noted(directory)) is not None:
        return _restore(noted, len(os.sched_getaffinity(0)))
    torch.set_num_threads(asked if asked != "auto" else _automatic(training))
    return f"{torch.get_num_threads()}"


def restore_threads(directory: RunDirectory) -> str:
    """Use as many threads as the run began with; returns a sentence for people, "" for a run that has not begun."""
    noted = _noted(directory)
    return "" if noted is None else _restore(noted, len(os.sched_getaffinity(0)))


def _noted(directory: RunDirectory) -> int | None:
    return read_environment(directory.environment).get("threads")


def _restore(noted: int, allowed: int) -> str:
    if noted > allowed:
        torch.set_num_threads(min(_DEFAULT, allowed))
        return (
            f"{torch.get_num_threads()}; the run began with {noted}, which this machine lacks: from now on its numbers "
            "may differ in their last digits from those of an uninterrupted run"
        )
    torch.set_num_threads(noted)
    return f"{noted}, as it began"


def _automatic(training: Training) -> int:
    if training.data.labels.device.type != "cpu":
        return _DEFAULT
    inputs, _ = next(training.data.batches(2))
    mode = training.network.training
    training.network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        training.network(inputs)
    training.network.train(mode)
    of_a_step = 3 * training.batch_size * counter.get_total_flops() / len(inputs)
    return 1 if of_a_step < SMALL_STEP else _DEFAULT
