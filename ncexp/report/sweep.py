"""The cells of a sweep and, in each, the learning rate that the paper would keep (HPD22)."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ncexp.record import FAMILIES, SavedRun, State

Place = tuple[str, str, str]
#: The columns of HPD22's figures, in the printed order: our name → the printed one.
DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "svhn": "SVHN", "stl10": "STL10"}
#: What may differ among the runs of a cell.
FREE = ("lr", "optimizer.lr", "seed")


@dataclass(frozen=True)
class Cell:
    """All runs of one (dataset, architecture, loss); they differ in learning rate and seed alone."""

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
        return {
            rate: mean([run.records[-1].get("test/error", math.nan) for run in runs]) for rate, runs in complete.items()
        }

    @cached_property
    def best_rate(self) -> float | None:
        """The complete rate with the lowest test error at the last epoch, of equals the smallest; None without any.

        Rates without a test error come last.
        """
        rates = self.complete_rates
        return min(rates, key=lambda rate: (math.isnan(rates[rate]), rates[rate], rate), default=None)

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
        """The runs, one a seed, of the best rate; none where there is no complete rate."""
        return [] if self.best_rate is None else self.rates[self.best_rate]

    def _at(self, rate: float) -> Iterable[SavedRun]:
        return (run for run in self.runs if run.rate == rate or (math.isnan(rate) and math.isnan(run.rate)))


@dataclass(frozen=True)
class Sweep:
    """The cells, with their places' names in the order of first appearance."""

    cells: dict[Place, Cell]

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
        """What is compared within a panel."""
        return sorted({loss for _, _, loss in self.cells}, key=lambda loss: (not loss.startswith("mse"), loss))

    @property
    def runs(self) -> list[SavedRun]:
        """All of them."""
        return [run for cell in self.cells.values() for run in cell.runs]


def gather(runs: Iterable[SavedRun]) -> Sweep:
    """The runs by cell.

    Raises ValueError where there is none, where two have one key, and where the runs of a cell differ in more than
    learning rate and seed: then "best" would compare what the paper does not.
    """
    cells: dict[Place, list[SavedRun]] = {}
    for run in runs:
        if not run.is_simulation:
            cells.setdefault(run.cell, []).append(run)
    if not cells:
        raise ValueError("runs: expected some to report on, got none. Name the folder of trainings, or check --where.")
    for place, members in cells.items():
        _check_cell(place, members)
    made = [Cell(place, members) for place, members in cells.items()]
    return Sweep({cell.place: cell for cell in sorted(made, key=_paper_order)})


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


def natural_order(name: str) -> list[str | int]:
    """A key to sort by in which numbers count as such: vgg11, vgg13, vgg101."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _paper_order(cell: Cell) -> tuple[object, ...]:
    """The paper's order of datasets, then of families; others after them; MSE before other losses."""
    dataset, _, loss = cell.place
    column = [*DATASETS].index(dataset) if dataset in DATASETS else len(DATASETS)
    return (column, dataset, *_row_order(cell), not loss.startswith("mse"), loss)


def _row_order(cell: Cell) -> tuple[object, ...]:
    row = FAMILIES.index(cell.family) if cell.family in FAMILIES else len(FAMILIES)
    return (row, cell.family.lower(), natural_order(cell.place[1]))


def _check_cell(place: Place, runs: Sequence[SavedRun]) -> None:
    seen: dict[str, SavedRun] = {}
    for run in runs:
        if other := seen.get(run.key):
            raise ValueError(f"{run.path}: expected one run of key {run.key}, got also {other.path}. Name one of them.")
        seen[run.key] = run
    names = sorted({name for run in runs for name in run.choices if name not in FREE})
    differing = [name for name in names if len({str(run.choices.get(name)) for run in runs}) > 1]
    if differing:
        name = differing[0]
        values = ", ".join(sorted({str(run.choices.get(name)) for run in runs}))
        raise ValueError(
            f"{'/'.join(place)}: expected runs that differ in learning rate and seed, got {name} = {values}. "
            f"Choose one with --where {name}=VALUE."
        )
