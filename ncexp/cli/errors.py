"""What a person reads when a command refuses: one message, the same for all commands."""

from __future__ import annotations

from ncexp.config.composing import REFUSALS
from ncexp.launching import task
from ncexp.record import State


def explain_or_raise(error: Exception) -> State:
    """Print why a command refused; returns the state that stands for it. Raises any other exception again: a defect."""
    state = task.refuse(error, task.REFUSALS | dict.fromkeys(REFUSALS, State.REFUSED))
    if state is None:
        raise error
    return state
