"""Random numbers: those of a training, and those of a computation that leaves them alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


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
