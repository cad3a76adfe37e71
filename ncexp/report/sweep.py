"""The cells of a sweep and, in each, the learning rate that the paper would keep (HPD22).

What lies in a folder may be of several experiments: runs of one dataset and network that differ in more than learning
rate, seed and loss are of different settings, and each setting is a group of its own: a part of the loss's name.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ncexp.record import FAMILIES, SavedRun, State
from ncexp.record.text import printable

#: Dataset, architecture, loss; where runs differ in more, the loss is followed by ", " and the setting's name.
Place = tuple[str, str, str]
#: The value of each key that differs, as text.
Setting = tuple[str, ...]
#: The columns of HPD22's figures, in the printed order: our name → the printed one.
DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "svhn": "SVHN", "stl10": "STL10"}
#: What may differ within a setting.
FREE = ("dataset", "architecture", "loss", "regime", "lr", "optimizer.lr", "seed")
#: A setting is named by its values where these are as short, and as plain: no figure or format misreads them.
SHORT = re.compile(r"[\w.,=+/ –-]{1,40}")


@dataclass(frozen=True)
class Cell:
    """All runs of one (dataset, architecture, loss) in one setting; they differ in learning rate and seed alone."""

    place: Place
    runs: list[SavedRun]

    @cached_property
    def rates(self) -> dict[float, list[SavedRun]]:
        """Learning rate → its runs, one a seed, ascending; nan, last, where that of another training is not known."""
        rates = sorted({run.rate for run in self.runs}, key=lambda rate: (math.isnan(rate), rate))
        return {rate: sorted(self._at(rate), key=lambda run: -1 if run.seed is None else run.seed) for rate in rates}

    @cached_property
    def complete_rates(self) -> dict[float, float]:
        """Learning rate → test error at the LAST epoch, the mean over its seeds; where every one of them completed."""
        complete = {
            rate: runs
            for rate, runs in self.rates.items()
            if all(run.state is State.COMPLETED and run.records for run in runs)
        }
        return {rate: last_test_error(runs) for rate, runs in complete.items()}

    @cached_property
    def best_rate(self) -> float | None:
        """The complete rate with the lowest test error at the last epoch, of equals the smallest; None without any.

        Rates without a test error come last.
        """
        rates = self.complete_rates
        return min(rates, key=lambda rate: (math.isnan(rates[rate]), rates[rate], rate), default=None)

    @cached_property
    def shown_rate(self) -> float | None:
        """The best rate; where none is complete, the one that leads so far; None where no run has a number yet.

        So far leads the lowest test error at the last evaluated epoch, mean over seeds; rates of which a run diverged
        or failed come after all others.
        """
        if self.best_rate is not None:
            return self.best_rate
        begun = {rate: runs for rate, runs in self.rates.items() if any(run.records for run in runs)}

        def order(rate: float) -> tuple[object, ...]:
            error = last_test_error(begun[rate])
            return (ended(begun[rate]), math.isnan(error), error, rate)

        return min(begun, key=order, default=None)

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the smallest or the largest of several tried: a better one may lie beyond."""
        return len(self.rates) > 1 and self.best_rate in (min(self.rates), max(self.rates))

    @property
    def family(self) -> str:
        """Of the architecture: VGG, ResNet, DenseNet or another."""
        return self.runs[0].family

    @property
    def best(self) -> list[SavedRun]:
        """The runs, one a seed, of the shown rate, as far as they have numbers."""
        return [] if self.shown_rate is None else [run for run in self.rates[self.shown_rate] if run.records]

    def _at(self, rate: float) -> Iterable[SavedRun]:
        return (run for run in self.runs if run.rate == rate or (math.isnan(rate) and math.isnan(run.rate)))


@dataclass(frozen=True)
class Sweep:
    """The cells, with their places' names in the order of first appearance.

    keys: in what the runs differ beside FREE; settings: the values of each, by its name; none where nothing differs.
    """

    cells: dict[Place, Cell]
    keys: list[str] = field(default_factory=list)
    settings: dict[str, Setting] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """Columns of the paper's grid."""
        return list(dict.fromkeys(dataset for dataset, _, _ in self.cells))

    @property
    def rows(self) -> dict[str, list[str]]:
        """Rows of the paper's grid, by what is written beside them, with their architectures.

        A row is a family: VGG, ResNet, DenseNet, then others. Where a dataset has two networks of one family, which one
        panel cannot show, each architecture of that family is a row.
        """
        families: dict[str, set[tuple[str, str]]] = {}
        for (dataset, architecture, _), cell in sorted(self.cells.items(), key=lambda one: _row_order(one[1])):
            families.setdefault(cell.family, set()).add((dataset, architecture))
        rows: dict[str, list[str]] = {}
        for family, members in families.items():
            architectures = sorted({architecture for _, architecture in members}, key=natural_order)
            shared = len({dataset for dataset, _ in members}) == len(members)
            rows |= {family: architectures} if shared else {one: [one] for one in architectures}
        return rows

    @property
    def losses(self) -> list[str]:
        """What is compared within a panel: losses, MSE first, and of each its settings."""
        order = ["", *self.settings]
        return sorted({loss for _, _, loss in self.cells}, key=lambda loss: _loss_order(loss, order))

    @property
    def runs(self) -> list[SavedRun]:
        """All of them."""
        return [run for cell in self.cells.values() for run in cell.runs]


def gather(runs: Iterable[SavedRun]) -> Sweep:
    """The runs by cell; those that differ in more than FREE by setting, too.

    Raises ValueError where there is none, and where two have one key.
    """
    found = [run for run in runs if not run.is_simulation]
    if not found:
        raise ValueError("runs: expected some to report on, got none. Name the folder of trainings, or check --where.")
    keys = _differing(found)
    settings = sorted({_values(run, keys) for run in found}, key=lambda values: [*map(_value_order, values)])
    names = dict(zip(settings, _names(keys, settings), strict=True))
    cells: dict[Place, list[SavedRun]] = {}
    for run in found:
        dataset, architecture, loss = run.cell
        place = (dataset, architecture, f"{loss}, {names[_values(run, keys)]}" if keys else loss)
        cells.setdefault(place, []).append(run)
    for members in cells.values():
        _refuse_twins(members)
    order = ["", *names.values()]
    made = sorted((Cell(place, members) for place, members in cells.items()), key=lambda one: _paper_order(one, order))
    return Sweep({cell.place: cell for cell in made}, keys, {names[one]: one for one in settings} if keys else {})


def describe_settings(sweep: Sweep) -> str:
    """In a sentence, why there are groups, and what became of them; empty where there are none."""
    if not sweep.keys:
        return ""
    value = next(values[0] for values in sweep.settings.values() if values[0] != _text(None))
    return printable(
        f"Beside learning rate, seed and loss these runs differ in {', '.join(sweep.keys)}: {len(sweep.settings)} "
        f"settings, each with rows and a colour of its own. Leave some out with --where, as in --where "
        f"{sweep.keys[0]}={value}."
    )


def ended(runs: Iterable[SavedRun]) -> bool:
    """Whether one diverged or failed, so that the others of its rate make no complete one."""
    return any(run.state in (State.DIVERGED, State.FAILED) for run in runs)


def last_test_error(runs: Iterable[SavedRun]) -> float:
    """The test error at the last evaluated epoch, the mean over the runs that have one; nan without any."""
    errors = [run.records[-1].get("test/error", math.nan) for run in runs if run.records]
    return mean(errors) if errors else math.nan


def mean(values: Sequence[float]) -> float:
    """The mean, also of values whose sum float64 does not hold, and of infinite ones."""
    largest = max(map(abs, values))
    if not all(map(math.isfinite, values)):
        return sum(values) / len(values)
    return statistics.fmean(values) if largest < 1e300 else largest * statistics.fmean(one / largest for one in values)


def deviation(values: Sequence[float]) -> float:
    """The standard deviation (n − 1); nan of fewer than two values, and where one is infinite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    largest = max(map(abs, values))
    return statistics.stdev(values) if largest < 1e150 else largest * statistics.stdev(one / largest for one in values)


def natural_order(name: str) -> list[str | float]:
    """A key to sort by in which numbers count as such: vgg11, vgg13, vgg101."""
    return [float(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _paper_order(cell: Cell, settings: Sequence[str]) -> tuple[object, ...]:
    """The paper's order of datasets, then of families; others after them; MSE before other losses."""
    dataset, _, loss = cell.place
    column = [*DATASETS].index(dataset) if dataset in DATASETS else len(DATASETS)
    return (column, dataset, *_row_order(cell), *_loss_order(loss, settings))


def _loss_order(loss: str, settings: Sequence[str]) -> tuple[object, ...]:
    name, _, setting = loss.partition(", ")
    return (not name.startswith("mse"), name, settings.index(setting))


def _row_order(cell: Cell) -> tuple[object, ...]:
    row = FAMILIES.index(cell.family) if cell.family in FAMILIES else len(FAMILIES)
    return (row, cell.family.lower(), natural_order(cell.place[1]))


def _refuse_twins(runs: Sequence[SavedRun]) -> None:
    seen: dict[str, SavedRun] = {}
    for run in runs:
        if other := seen.get(run.key):
            raise ValueError(f"{run.path}: expected one run of key {run.key}, got also {other.path}. Name one of them.")
        seen[run.key] = run


def _differing(runs: Sequence[SavedRun]) -> list[str]:
    """The keys, but for FREE, in which runs of one dataset and network differ.

    An option is held against that of runs with the same choice: that only one of two optimizers has a momentum is said
    by the optimizer's name.
    """
    held: dict[tuple[str, ...], set[str]] = {}
    names = dict.fromkeys(name for run in runs for name in run.choices if name not in FREE)
    for run in runs:
        for name in names:
            choice = _text(run.choices.get(name.rpartition(".")[0]))
            held.setdefault((name, *run.cell[:2], choice), set()).add(_text(run.choices.get(name)))
    differing = {name for (name, *_), values in held.items() if len(values) > 1}
    return [name for name in names if name in differing]


def _values(run: SavedRun, keys: Iterable[str]) -> Setting:
    return tuple(_text(run.choices.get(key)) for key in keys)


def _names(keys: Sequence[str], settings: Sequence[Setting]) -> list[str]:
    """What rows and legends call each setting: its values where all are short, else its number."""
    short = [key.rpartition(".")[2] for key in keys]
    words = [" ".join(f"{key}={value}" for key, value in zip(short, values, strict=True)) for values in settings]
    if len(set(short)) == len(short) and all(map(SHORT.fullmatch, words)):
        return words
    return [f"setting {number}" for number in range(1, len(settings) + 1)]


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _value_order(value: str) -> tuple[object, ...]:
    """Numbers first, by size."""
    try:
        return (0, float(value), [])
    except ValueError:
        return (1, 0.0, natural_order(value))
