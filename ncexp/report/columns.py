"""The columns of a report: the keys of its runs, and the numbers of their last evaluated epoch.

An axis is a configuration key in which runs differ and which no other key decides.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ncexp.record import SavedRun
from ncexp.record.quantities import Quantity
from ncexp.report.numbers import at_the_end

#: Names of what every run has beside its keys and the quantities of its journals.
EPOCH, ZERO_EPOCH, SEED = "epoch", "zero_error_epoch", "seed"
#: Letters of a tick.
LONGEST = 18
#: What is not there, in words.
ABSENT = "–"


def differing(runs: Sequence[SavedRun]) -> list[str]:
    """The keys that are not the same in all runs; lr stands for optimizer.lr."""
    names = dict.fromkeys(name for run in runs for name in run.choices if name != "optimizer.lr")
    return [name for name in names if len({text_of(run, name) for run in runs}) > 1]


def axes(runs: Sequence[SavedRun]) -> list[str]:
    """The keys but for the seed in which runs differ and which no other key decides.

    Runs of one dataset and network are held against each other: what data sets differ in, their names say. So are, of
    an option, runs with the same choice: that only one of two optimizers has a momentum, the optimizer's name says.
    """
    found = []
    for name in differing(runs):
        group = "optimizer" if name == "lr" else name.rpartition(".")[0]
        values: dict[tuple[str, ...], set[str]] = {}
        for run in runs:
            alike = () if name in ("dataset", "architecture") else run.cell[:2]
            values.setdefault((*alike, text_of(run, group)), set()).add(text_of(run, name))
        if name != SEED and any(len(one) > 1 for one in values.values()):
            found.append(name)
    return found


def text_of(run: SavedRun, name: str) -> str:
    """What was chosen, or followed from it, as --where takes it; a dash where there is no such parameter."""
    value = run.parameters.get(name)
    return ABSENT if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """Something that every run has, or lacks: a key, or a number of its last evaluated epoch.

    texts: the distinct values of a key, in natural order.
    """

    name: str
    row: Quantity | None = None
    texts: tuple[str, ...] = ()

    @property
    def is_key(self) -> bool:
        """Whether it was chosen, or followed from what was, rather than measured."""
        return bool(self.texts)

    @property
    def label(self) -> str:
        """As axes and tables call it: a key by its name, a number by the catalogue, with its split."""
        if self.name == ZERO_EPOCH:
            return "zero-error epoch"
        if self.row is None:
            return self.name
        unit = " %" if self.row.is_share else ""
        return f"{self.row.label_of(self.name).partition(': ')[0]}{unit}" + (
            "" if self.name.startswith("train/") else f", {self.name.split('/')[0]}"
        )

    @cached_property
    def numeric(self) -> bool:
        """Whether all its values are numbers, so that each has a place on an axis of numbers."""
        return all(map(is_number, self.texts))

    @property
    def ordered(self) -> bool:
        """Whether its values are numbers, also where some runs lack it and its values stand side by side."""
        return all(is_number(text) for text in self.texts if text != ABSENT)

    @cached_property
    def log(self) -> bool:
        """Whether its axis is logarithmic: of a number as the catalogue has it, of a key where it was spaced so."""
        if not self.is_key:
            return self.row is not None and self.row.is_log
        return self.numeric and is_geometric([*map(float, self.texts)])

    @cached_property
    def words(self) -> dict[str, str]:
        """What people read for each value of a key: numbers with six digits, with all where six would make two one."""
        short = [brief(text) for text in self.texts]
        return {text: word if short.count(word) == 1 else text for text, word in zip(self.texts, short, strict=True)}

    def of(self, run: SavedRun) -> float:
        """The number, a share in percent; nan where there is none."""
        if self.name == ZERO_EPOCH:
            return math.nan if run.zero_error_epoch is None else float(run.zero_error_epoch)
        if self.is_key:
            text = text_of(run, self.name)
            return float(text) if is_number(text) else math.nan
        return at_the_end(self.name)(run) * (100 if self.row is not None and self.row.is_share else 1)


def brief(text: str) -> str:
    """A number with at most six digits, other words as they are."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def tick(text: str) -> str:
    """What a tick of an axis has room for: a number with three digits, the first letters of long words."""
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def natural_order(name: str) -> list[tuple[int, float, str]]:
    """A key to sort by in which numbers count as such: vgg11, vgg13, vgg101; 1e-05, 0.0005, 0.1; words after them."""
    try:
        return [(0, float(name), "")]
    except ValueError:
        return [(0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", name)]


def brief_choice(name: str, text: str, word: str | None = None) -> str:
    """``weight_decay=0.0005``: the key's last word; a choice of a group, digits or cross_entropy, speaks for itself.

    word: what people read for the value, `Column.words`; without it as `brief`.
    """
    word = brief(text) if word is None else word
    return word if "." not in name and not is_number(text) else f"{name.rpartition('.')[2]}={word}"


def is_number(text: str) -> bool:
    """Whether it is a finite number; True and False are words."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def is_geometric(values: Sequence[float]) -> bool:
    """Whether positive numbers are spaced by factors rather than by steps; two of them from a factor of 5 on."""
    ordered = sorted({*values})
    if len(ordered) < 2 or ordered[0] <= 0:
        return False
    if len(ordered) == 2:
        return ordered[1] >= 5 * ordered[0]
    steps = [high - low for low, high in itertools.pairwise(ordered)]
    factors = [math.log(high / low) for low, high in itertools.pairwise(ordered)]
    return _variation(factors) < _variation(steps)


def _variation(values: Sequence[float]) -> float:
    return statistics.pstdev(values) / statistics.fmean(values)
