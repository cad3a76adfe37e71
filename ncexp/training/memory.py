"""A process's memory: the C library keeps what is freed, and what to reduce where there is none left."""

from __future__ import annotations

import ctypes

import torch

#: Parameters of mallopt(3): how many blocks may be mapped by the system, and from how many free bytes on the heap's
#: end goes back to it.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1

#: In the RuntimeErrors that say so without a class of their own: torch on a CPU, CUDA itself, cuDNN and cuBLAS.
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


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
