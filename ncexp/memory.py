"""The C library keeps what is freed: a step needs the memory of the step before."""

from __future__ import annotations

import ctypes

#: Parameters of mallopt(3): how many blocks may be mapped by the system, and from how many free bytes on the heap's
#: end goes back to it.
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> None:
    """Have glibc neither map large blocks anew each time nor give the heap's end back.

    Both are done at every step of a training on CPUs, whose activations are a few large blocks, and each page is then
    zeroed by the system anew: 5 to 10 % of a step. A C library without mallopt is left as it is.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
