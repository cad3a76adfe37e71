"""What the choice of an optimizer has beside the options of its target: how a step is made, which weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ncexp.config.components import Component, ConfigError, Count, Positive, read_part
from ncexp.config.start import divide

KEYS = ("clip_norm", "accumulate")


@dataclass(frozen=True)
class Steps:
    """clip_norm: the largest norm of the gradient of all parameters together, None: any; accumulate: how many parts,
    one after the other, a batch is computed in.
    """

    clip_norm: float | None = None
    accumulate: int = 1

    def identity(self) -> dict[str, Any]:
        """Its part in the training key, and what config.yaml has: what is not as it was before there was a choice."""
        given = {"clip_norm": self.clip_norm, "accumulate": self.accumulate if self.accumulate > 1 else None}
        return {name: value for name, value in given.items() if value is not None}

    def describe(self) -> list[str]:
        """What is said of it in a run's first lines."""
        clipped, parts = f"gradients clipped at norm {self.clip_norm}", f"each in {self.accumulate} parts"
        said = {"clip_norm": clipped, "accumulate": parts}
        return [said[name] for name in self.identity() if name in said]

    def ridge_notes(self) -> list[str]:
        """What is to be said beside λ."""
        return ["a gradient that is clipped is, before the decay joins it"] if self.clip_norm is not None else []


def divided(raw: Any) -> tuple[Any, dict[str, Any]]:
    """A choice of optimizer → (what is its target's, what is for `Steps`); the schedule is a choice of its own.

    A parameter of these names that the target has itself stays its own.
    """
    if not isinstance(raw, Mapping):
        return raw, {}
    raw = {key: value for key, value in raw.items() if key != "schedule"}
    if isinstance(base := raw.get("base"), Mapping):  # another choice of optimizer, which has none
        raw["base"] = {key: value for key, value in base.items() if key != "schedule"}
    return divide(raw, "optimizer", KEYS)


def optimizer_of(raw: Any) -> Component:
    """The choice of an optimizer without its schedule and without what `Steps` reads of it."""
    return Component.check("optimizer", divided(raw)[0])


def steps_of(raw: Any) -> Steps:
    """The `Steps` of a choice of optimizer. Raises ConfigError for values of another kind."""
    _, given = divided(raw)
    return read_part("optimizer", _checked, given)


def refuse_uneven(steps: Steps, batch_size: int) -> None:
    """Raises ConfigError where a batch has no parts of one size."""
    if batch_size % steps.accumulate:
        raise ConfigError(
            f"optimizer.accumulate: expected a divisor of batch_size={batch_size}, got {steps.accumulate}. Choose "
            "another, or another batch_size."
        )


def _checked(*, clip_norm: Positive | None = None, accumulate: Count | None = None) -> Steps:
    return Steps(clip_norm, accumulate or 1)
