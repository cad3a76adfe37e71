"""How a run, a measuring or a simulation can stand: one enumeration, with all that follows from each state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    """The states, in the order in which counts are printed.

    In status.json: running, completed, diverged, pruned (a search ended it before its last epoch), failed, interrupted.
    Seen from outside: killed (says running, but no process holds its lock), lost (its job left the queue without a
    result), damaged (a file of it cannot be read, or its journals lack rows), queued, new, unknown (only SLURM could
    tell). Of a command: refused (its configuration), busy (another process works on it).

    exit_code: what a command that ends with a run in this state returns to the shell; mlflow: MLflow's word for it;
    final: whether the result is there and nothing is left to do, as a diverged run would diverge again; active: whether
    a process or a job works on it, or will.
    """

    exit_code: int
    mlflow: str
    final: bool
    active: bool

    def __new__(
        cls, word: str, exit_code: int = 0, mlflow: str = "", final: bool = False, active: bool = False
    ) -> State:
        state = str.__new__(cls, word)
        state._value_ = word
        state.exit_code, state.mlflow, state.final, state.active = exit_code, mlflow, final, active
        return state

    COMPLETED = "completed", 0, "FINISHED", True
    DIVERGED = "diverged", 3, "FINISHED", True
    PRUNED = "pruned", 0, "KILLED"  # not final: asked for alone, it goes on to its full length
    FAILED = "failed", 1, "FAILED"
    INTERRUPTED = "interrupted", 130, "KILLED"
    KILLED = "killed", 5, "KILLED"
    LOST = "lost", 5, "KILLED"
    DAMAGED = "damaged", 1, "FAILED"
    RUNNING = "running", 4, "RUNNING", False, True  # by another process: this command did not do it
    QUEUED = "queued", 0, "SCHEDULED", False, True
    NEW = "new", 0, "SCHEDULED"
    UNKNOWN = "unknown", 5, "RUNNING"
    REFUSED = "refused", 2, "FAILED"
    BUSY = "busy", 4, "RUNNING"


def exit_code(states: Iterable[str]) -> int:
    """The exit code of a command: the largest of its runs' codes, 0 without any."""
    return max((State(state).exit_code for state in states), default=0)


def format_counts(states: Iterable[str]) -> str:
    """``3 completed, 1 failed, 2 queued``."""
    counts = Counter(State(state) for state in states)
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "none"
