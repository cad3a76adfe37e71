"""How a run, a measuring or a simulation can stand: one enumeration, with all that follows from each state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The states, in the order in which counts are printed.

    In status.json: running, completed, diverged, pruned (a search ended it before its last epoch), failed, interrupted.
    Seen from outside: killed (says running, but no process holds its lock), lost (its job left the queue without a
    result), damaged (a file of it cannot be read, or its record lacks epochs), queued, new, unknown (only SLURM could
    tell). Of a command: refused (its configuration), busy (another process works on it).
    """

    COMPLETED = "completed"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    LOST = "lost"
    DAMAGED = "damaged"
    RUNNING = "running"
    QUEUED = "queued"
    NEW = "new"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    BUSY = "busy"

    @property
    def final(self) -> bool:
        """Whether the result is there and nothing is left to do. A diverged run would diverge again."""
        return _PROPERTIES[self].final

    @property
    def active(self) -> bool:
        """Whether a process or a job works on it, or will."""
        return _PROPERTIES[self].active

    @property
    def exit_code(self) -> int:
        """What a command that ends with a run in this state returns to the shell."""
        return _PROPERTIES[self].exit_code

    @property
    def mlflow(self) -> str:
        """MLflow's word for it."""
        return _PROPERTIES[self].mlflow


@dataclass(frozen=True)
class _Properties:
    exit_code: int
    mlflow: str
    final: bool = False
    active: bool = False


_PROPERTIES = {
    State.COMPLETED: _Properties(0, "FINISHED", final=True),
    State.DIVERGED: _Properties(3, "FINISHED", final=True),
    State.PRUNED: _Properties(0, "KILLED"),  # not final: asked for alone, it goes on to its full length
    State.FAILED: _Properties(1, "FAILED"),
    State.INTERRUPTED: _Properties(130, "KILLED"),
    State.KILLED: _Properties(5, "KILLED"),
    State.LOST: _Properties(5, "KILLED"),
    State.DAMAGED: _Properties(1, "FAILED"),
    State.RUNNING: _Properties(4, "RUNNING", active=True),  # by another process: this command did not do it
    State.QUEUED: _Properties(0, "SCHEDULED", active=True),
    State.NEW: _Properties(0, "SCHEDULED"),
    State.UNKNOWN: _Properties(5, "RUNNING"),
    State.REFUSED: _Properties(2, "FAILED"),
    State.BUSY: _Properties(4, "RUNNING"),
}


def exit_code(states: Iterable[str]) -> int:
    """The exit code of a command: the largest of its runs' codes, 0 without any."""
    return max((State(state).exit_code for state in states), default=0)


def format_counts(states: Iterable[str]) -> str:
    """``3 completed, 1 failed, 2 queued``."""
    counts = Counter(State(state) for state in states)
    return ", ".join(f"{counts[state]} {state}" for state in State if counts[state]) or "none"
