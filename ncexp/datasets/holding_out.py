"""dataset.hold_out=[3,7]: the network is trained without these classes; their test examples lie outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor

from ncexp.config import ADDED, nearest
from ncexp.datasets import Dataset, Examples, Split, listed
from ncexp.datasets.preprocessing import testing_subset


def _ordered(classes: list[int | str] | None) -> list[int | str] | None:
    """[7, 3] and [3, 7] are one training; none held out is the default."""
    if len({*map(str, classes or [])}) < len(classes or []):
        raise ValueError("classes, each once")
    return sorted(classes or [], key=lambda one: (not isinstance(one, int), one)) or None


#: Classes by their numbers, or names where they have names.
HoldOut = Annotated[list[int | str] | None, AfterValidator(_ordered), ADDED]


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a data set in a new order: those that are trained on, in their old one, then those held out.

    names: in the new order; num_classes: how many are trained on; numbers: (C,), old number → new.
    """

    names: list[str]
    num_classes: int
    numbers: Tensor

    @classmethod
    def without(cls, names: Sequence[str], held: Sequence[int | str] | None) -> Classes:
        """names: of all, in their order. Raises ValueError for a class that is none of them, and where fewer than two
        are left.
        """
        words = [str(one) for one in held or []]
        if strange := [word for word in words if word not in names]:
            valid = nearest(strange[0], names) if len(names) <= 20 else f"Valid: {listed(names, 20)}."
            raise ValueError(f"dataset.hold_out: expected classes of the data, got {strange[0]}. {valid}")
        if len(names) - len(words) < 2:
            raise ValueError(
                f"dataset.hold_out: expected two classes at least to be left of {len(names)}, got "
                f"{len(names) - len(words)}. Hold out fewer."
            )
        order = sorted(range(len(names)), key=lambda number: (names[number] in words, number))
        return cls([names[number] for number in order], len(names) - len(words), torch.tensor(order).argsort())

    def held_out(self, labels: Tensor, examples_per_class: int | None, seed: int) -> Tensor:
        """Indices of the test examples with new labels (n,) that are of held-out classes; chosen as the others are."""
        held = (labels >= self.num_classes).nonzero().squeeze(1)
        chosen = testing_subset(labels[held] - self.num_classes, self._num_held, examples_per_class, seed)
        return held[chosen]

    @property
    def facts(self) -> dict[str, Any]:
        """The names, for facts.json, where classes are held out."""
        kept, held = self.names[: self.num_classes], self.names[self.num_classes :]
        return {"classes": listed(kept), "classes_held_out": listed(held)} if held else {}

    @property
    def _num_held(self) -> int:
        return len(self.names) - self.num_classes


def without_classes(data: Dataset, names: Sequence[str], held: Sequence[int | str] | None) -> Dataset:
    """The same without these classes, for data whose inputs are as they are. Raises ValueError as `Classes.without`."""
    if not held:
        return data
    classes = Classes.without(names, held)
    train, test, held_out = _parts(data.train, classes)[0], *_parts(data.test, classes)
    facts = {**data.facts, **classes.facts}
    return dataclasses.replace(
        data, train=train, test=test, num_classes=classes.num_classes, facts=facts, held_out=held_out
    )


def _parts(split: Examples, classes: Classes) -> tuple[Split, Split]:
    """What is trained on, and what is held out."""
    assert isinstance(split, Split)
    labels = classes.numbers[split.labels]
    kept = labels < classes.num_classes
    return Split(split.inputs[kept], labels[kept]), Split(split.inputs[~kept], labels[~kept])
