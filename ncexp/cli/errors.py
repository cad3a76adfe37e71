"""What a person reads when a command refuses: one message, the same for all commands."""

from __future__ import annotations

import sys

from ncexp.config.composing import REFUSALS, explain
from ncexp.launching.slurm import SlurmUnavailable
from ncexp.record import Busy, State
from ncexp.record.text import say


def explain_or_raise(error: Exception) -> State:
    """Print why a command refused; returns the state that stands for it. Raises any other exception again: a defect."""
    for kinds, state in ((REFUSALS, State.REFUSED), ((Busy,), State.BUSY), ((SlurmUnavailable,), State.FAILED)):
        if isinstance(error, kinds):
            say(f"ncexp: {explain(error)}", sys.stderr)
            return state
    raise error
