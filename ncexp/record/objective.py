"""What a search looks for: quantities of the catalogue at the last evaluated epoch, or functions of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

from ncexp.config import ConfigError
from ncexp.config.components import closest, locate
from ncexp.record.quantities import QUANTITIES, find
from ncexp.record.runs import last_numbers
from ncexp.record.saved_run import SavedRun

#: The journal file of a search, in the folder of its sweep; see `ncexp.record.study`.
STUDY = "study.journal"
MINIMIZE, MAXIMIZE = "minimize", "maximize"
#: What a quantity comes to at collapse, by the catalogue → the direction in which it gets there.
_BY_COLLAPSE = {"0": MINIMIZE, "∞": MAXIMIZE}


def check_objectives(objective: str | Sequence[str] | None) -> list[str]:
    """The objectives by name; none without any.

    Raises ConfigError for a name that neither the catalogue nor a function has.
    """
    names = [] if objective is None else [objective] if isinstance(objective, str) else [*objective]
    for name in names:
        if "/" not in name and "." in name:
            locate("objective", name)
        elif find(name) is None:
            known = [row.on(split) for row in QUANTITIES for split in row.splits]
            near = closest(name, known)
            raise ConfigError(
                f"objective: expected a quantity or package.module.function, got {name!r}. `ncexp list quantities` "
                f"lists them.{f' Did you mean {near}?' if near else ''}"
            )
    return names


def check_directions(objectives: Sequence[str], direction: str | Sequence[str] | None) -> list[str]:
    """A direction for each objective; by default that in which the quantity goes at collapse.

    Raises ConfigError where the catalogue knows none, and where their numbers differ.
    """
    if direction is not None:
        directions = [direction] if isinstance(direction, str) else [*direction]
        if len(directions) != len(objectives):
            raise ConfigError(
                f"direction: expected one for each of {len(objectives)} objectives, got {len(directions)}. "
                "As in objective=[test/error,train/loss] direction=[minimize,minimize]."
            )
        return directions
    rows = {name: find(name) for name in objectives if "/" in name}
    found = {name: _BY_COLLAPSE.get(row.at_collapse) for name, row in rows.items() if row is not None}
    if unknown := [name for name in objectives if found.get(name) is None]:
        raise ConfigError(f"direction: expected minimize or maximize for {unknown[0]}, got none. Set direction=...")
    return [str(found[name]) for name in objectives]


def value_of(run: SavedRun, objective: str) -> float:
    """The objective of a run as it stands; nan where the number is not defined.

    Raises ConfigError where no analysis of the run measures it, or the function does not return a number.
    """
    if "/" in objective:
        numbers = last_numbers(run) if run.records else {}
        if objective not in numbers:
            raise ConfigError(
                f"objective: expected a number that {run.path.name} has, got {objective}. Add the analysis that "
                "measures it, as in analysis=[collapse,robustness]; what is trained is not trained again."
            )
        return numbers[objective]
    try:
        value = locate("objective", objective)(run)
    except Exception as error:
        raise ConfigError(
            f"objective: expected {objective} to return a number for {run.path}, got {type(error).__name__}: {error}. "
            "Correct the function."
        ) from error
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ConfigError(f"objective: expected {objective} to return a number, got {value!r}. Correct the function.")
    return float(value)


def values_of(run: SavedRun, objectives: Sequence[str]) -> list[float] | None:
    """As `value_of`, of each; None where one is not finite."""
    values = [value_of(run, name) for name in objectives]
    return values if all(map(math.isfinite, values)) else None
