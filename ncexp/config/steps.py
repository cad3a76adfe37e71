"""What the choice of an optimizer has beside the options of its target: how a step is made, which weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ncexp.config.components import Component, ConfigError, Count, Fraction, Positive, read_part
from ncexp.config.names import shown
from ncexp.config.start import divide

KEYS = ("clip_norm", "accumulate", "average", "average_decay", "average_from")
Average = Literal["ema", "swa"]


@dataclass(frozen=True)
class Steps:
    """clip_norm: the largest norm of the gradient of all parameters together, None: any; accumulate: how many parts,
    one after the other, a batch is computed in; average: which mean of the weights is evaluated, None: the weights
    themselves; average_decay: of ema; average_from: of swa, the part of the epochs that is done before.
    """

    clip_norm: float | None = None
    accumulate: int = 1
    average: Average | None = None
    average_decay: float = 0.999
    average_from: float = 0.75

    def identity(self) -> dict[str, Any]:
        """Its part in the training key, and what config.yaml has: what is not as it was before there was a choice."""
        given: dict[str, Any] = {"clip_norm": self.clip_norm, "average": self.average}
        given["accumulate"] = self.accumulate if self.accumulate > 1 else None
        given["average_decay"] = self.average_decay if self.average == "ema" else None
        given["average_from"] = self.average_from if self.average == "swa" else None
        return {name: value for name, value in given.items() if value is not None}

    def describe(self) -> list[str]:
        """What is said of it in a run's first lines."""
        clipped, parts = f"gradients clipped at norm {self.clip_norm}", f"each in {self.accumulate} parts"
        said = {
            "clip_norm": clipped,
            "accumulate": parts,
            "average": f"evaluated is the mean of weights, {self.average}",
        }
        return [said[name] for name in self.identity() if name in said]

    def ridge_notes(self) -> list[str]:
        """What is to be said beside λ."""
        clipped = ["a gradient that is clipped is, before the decay joins it"] if self.clip_norm is not None else []
        return [*clipped, *(["it is that of the weights that are averaged"] if self.average else [])]


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


def _checked(
    *,
    clip_norm: Positive | None = None,
    accumulate: Count | None = None,
    average: Average | None = None,
    average_decay: Annotated[Fraction, Field(gt=0)] | None = None,
    average_from: Fraction | None = None,
) -> Steps:
    for name, value, of in (("average_decay", average_decay, "ema"), ("average_from", average_from, "swa")):
        if value is not None and average != of:
            raise ConfigError(
                f"optimizer.{name}: expected none without optimizer.average={of}, got {shown(value)}. Leave it out."
            )
    usual = Steps()
    decay = usual.average_decay if average_decay is None else average_decay
    begin = usual.average_from if average_from is None else average_from
    return Steps(clip_norm, accumulate or 1, average, decay, begin)
