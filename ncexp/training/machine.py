"""What a training sets for its whole process: signals, device, arithmetic, random numbers, threads, memory.

Arithmetic, for training; evaluation is in IEEE single precision. fp32: IEEE single precision throughout. tf32: the
factors in a GPU's convolutions and matrix products are rounded to 10 bits of mantissa; sums are in float32. bf16:
forward and backward pass in bfloat16, of 7 bits, where torch.autocast has it so; the weights, their gradients, the loss
and the optimizer are in float32.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Literal

import numpy
import torch

from ncexp.config import ConfigError, Precision
from ncexp.record import RunDirectory, read_environment

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Those that reach a run in a job: SLURM sends SIGUSR2 as the warning before a time limit, SIGTERM before it kills.
JOB_SIGNALS = (*SIGNALS, signal.SIGUSR2)
#: What torch chose in this process, from OMP_NUM_THREADS or the processors.
DEFAULT_THREADS = torch.get_num_threads()
#: Parameters of mallopt(3): how many blocks may be mapped by the system, and from how many free bytes on the heap's
#: end goes back to it.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
#: In the RuntimeErrors that say so without a class of their own: torch on a CPU, CUDA itself, cuDNN and cuBLAS.
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


class Diverged(ArithmeticError):
    """A loss, a parameter or a feature became infinite or not a number."""


class Interrupted(Exception):
    """The training was asked to stop; it stands at a step boundary and can be saved."""


class StopRequest:
    """A context manager that catches signals while a training runs; calling it returns whether one came.

    A signal only raises a flag, which the training reads between two steps. `received` lists those that came.
    A second signal meets the handler that was there before: who asks twice does not want to wait. Where `patient`, it
    does not: clusters send several, and send the one that cannot be caught when they mean it.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = SIGNALS, patient: bool = False) -> None:
        self._signals, self._patient = signals, patient
        self._previous: dict[int, object] = {}
        self.received: list[int] = []

    def __call__(self) -> bool:
        return bool(self.received)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._previous = {number: signal.signal(number, self._ask) for number in self._signals}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)  # a parent may have held them back until now
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}


def find_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:k → a device that is there. Raises ConfigError where it is not."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device: expected one of {torch.cuda.device_count()} GPUs seen here, got {name}. Use device=cpu."
        )
    return torch.device(name)


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raises ValueError where the device has no such arithmetic."""
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise ValueError(
            f"precision: expected fp32 or bf16 on {device}, got tf32, which NVIDIA's GPUs have from compute capability "
            "8.0 on. Use precision=fp32, or another device."
        )


@contextmanager
def rounding(precision: Precision) -> Iterator[None]:
    """Within it a GPU's float32 products are those of `precision`; without it, IEEE's (torch's default is tf32)."""
    allow_tf32(precision == "tf32")
    try:
        yield
    finally:
        allow_tf32(False)


def allow_tf32(allowed: bool) -> None:
    """For matrix products and for convolutions, which torch switches apart."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Around a forward pass: bfloat16 where that is asked for."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def seed_everything(seed: int) -> None:
    """Begin Python's, NumPy's and torch's random generators, of GPUs too, with `seed`."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it Python's, NumPy's and torch's random generators begin with `seed`; after it they are as before.

    Of GPUs only those that are in use: `torch.manual_seed` would seed the others as well, once they are used.
    """
    python, of_numpy, of_torch = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if of_gpus:
            torch.cuda.manual_seed_all(seed)
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_gpus:
            torch.cuda.set_rng_state_all(of_gpus)


def check_threads(asked: int | Literal["auto"]) -> None:
    """Raises ValueError where more are asked for than there are processors."""
    allowed = len(os.sched_getaffinity(0))
    if asked != "auto" and asked > allowed:
        raise ValueError(f"threads: expected at most the {allowed} processors of this machine, got {asked}.")


def restore_threads(directory: RunDirectory) -> str:
    """Use as many threads as the run began with; returns a sentence for people, "" for a run that has not begun."""
    noted, allowed = read_environment(directory.environment).get("threads"), len(os.sched_getaffinity(0))
    if noted is None:
        return ""
    if noted > allowed:
        torch.set_num_threads(min(DEFAULT_THREADS, allowed))
        return (
            f"{torch.get_num_threads()}; the run began with {noted}, which this machine lacks: from now on its numbers "
            "may differ in their last digits from those of an uninterrupted run"
        )
    torch.set_num_threads(noted)
    return f"{noted}, as it began"


def keep_freed_memory() -> None:
    """Have glibc neither map large blocks anew each time nor give the heap's end back.

    Both are done at every step of a training on CPUs, whose activations are a few large blocks, and each page is then
    zeroed by the system anew: 5 to 10 % of a step. A C library without mallopt is left as it is.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that error says that the GPU, or the machine, has no memory left."""
    marked = isinstance(error, RuntimeError) and any(mark in str(error) for mark in _OUT_OF_MEMORY)
    return marked or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def describe_out_of_memory(error: BaseException, batch_size: int) -> str | None:
    """What to reduce, where a step or an evaluation failed because the GPU, or the machine, has no memory left.

    error: what was raised; batch_size: the run's. Returns one line, or None for any other error.
    """
    if not is_out_of_memory(error):
        return None
    first_line = str(error).partition("\n")[0]
    return (
        f"batch_size: expected steps that fit into memory, got none left at {batch_size} examples. Reduce batch_size, "
        "the architecture's width or depth, or the number of runs that share the device."
        f" ({type(error).__name__}: {first_line})"
    )
