"""A sweep without a launcher: its tasks one after another, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from ncexp.launching.plan import Asked
from ncexp.launching.task import attempt
from ncexp.record import State, TaskDirectory, format_counts


def work_in_turn(asked: Sequence[Asked], console: Console) -> list[State]:
    """Work on all; returns their states. A failure stops nothing, Ctrl-C all: what has not begun stays new."""
    states: list[State] = []
    names = own_overrides([one.overrides for one in asked])
    try:
        for number, (one, name) in enumerate(zip(asked, names, strict=True), start=1):
            if len(asked) > 1:
                console.print(f"\nrun {number} of {len(asked)}  {name}", soft_wrap=True, markup=False)
            states.append(attempt(one.task.raw, console))
            if states[-1] is State.INTERRUPTED:
                break
    except KeyboardInterrupt:
        states.append(State.INTERRUPTED)
    states += [State.NEW] * (len(asked) - len(states))
    if len(asked) > 1:
        _print_table(asked, names, states, console)
    return states


def own_overrides(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Of each run the overrides that not all have: what tells it from the others."""
    common = set.intersection(*map(set, overrides)) if overrides else set()
    return [" ".join(override for override in one if override not in common) for one in overrides]


def _print_table(asked: Sequence[Asked], names: Sequence[str], states: Sequence[State], console: Console) -> None:
    """A line a run: how it ended and, unless it is through, why; then the counts."""
    console.print()
    width = max(map(len, names))
    for number, (one, name, state) in enumerate(zip(asked, names, states, strict=True), start=1):
        begun = state not in (State.COMPLETED, State.NEW, State.BUSY, State.REFUSED)
        why = str(TaskDirectory(one.task.directory).noted().get("message", "")) if begun else ""
        line = f"{number:>{len(str(len(asked)))}}  {name:{width}}  {state:11}  {why}"
        console.print(line.rstrip(), soft_wrap=True, markup=False)
    console.print(f"{len(asked)} runs: {format_counts(states)}", soft_wrap=True)
