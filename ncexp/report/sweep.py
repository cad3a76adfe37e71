"""What differs among runs, and the groups that this makes: the one place that says so.

A table of a few runs shows all in which they differ. An axis is a choice in which runs differ that no other choice
decides; runs that are the same on all axes differ in their seed alone and are one `Group`. The paper's grid (HPD22) is
made of groups, too: a `Cell` is a dataset, network and loss, its groups are learning rates, of which it keeps one.
Runs that have further axes are of several settings, and each setting has cells of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ncexp.record import FAMILIES, SavedRun, State
from ncexp.record.text import printable
from ncexp.report.numbers import ERROR, Spread, Value, at_the_end

#: Dataset, architecture, loss; where runs differ in more, the loss is followed by ", " and the setting's name.
Place = tuple[str, str, str]
#: The columns of HPD22's figures, in the printed order: our name → the printed one.
DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "svhn": "SVHN", "stl10": "STL10"}
#: The axes of the paper's grid; runs that have others are of several settings.
PAPER_AXES = ("dataset", "architecture", "loss", "regime", "lr")
#: A setting is named by its values where these are short words that no figure or format misreads.
SHORT = re.compile(r"[\w.,=+/ –-]{1,40}")


def differing(runs: Sequence[SavedRun]) -> list[str]:
    """The choices that are not the same in all runs; lr stands for optimizer.lr."""
    names = dict.fromkeys(name for run in runs for name in run.choices if name != "optimizer.lr")
    return [name for name in names if len({text_of(run, name) for run in runs}) > 1]


def axes(runs: Sequence[SavedRun]) -> list[str]:
    """The choices but for the seed in which runs differ and which no other choice decides.

    Runs of one dataset and network are held against each other: what data sets differ in, their names say. So are, of
    an option, runs with the same choice: that only one of two optimizers has a momentum, the optimizer's name says.
    """
    found = []
    for name in differing(runs):
        group = "optimizer" if name == "lr" else name.rpartition(".")[0]
        values: dict[tuple[str, ...], set[str]] = {}
        for run in runs:
            alike = () if name in PAPER_AXES[:2] else run.cell[:2]
            values.setdefault((*alike, text_of(run, group)), set()).add(text_of(run, name))
        if name != "seed" and any(len(one) > 1 for one in values.values()):
            found.append(name)
    return found


def text_of(run: SavedRun, name: str) -> str:
    """What was chosen, as --where takes it; a dash where there is no such choice."""
    value = run.choices.get(name)
    return "–" if value is None else str(value)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone. values: axis → what was chosen."""

    values: dict[str, str]
    runs: list[SavedRun]

    @property
    def completed(self) -> bool:
        """Whether every run did, and has numbers."""
        return all(run.state is State.COMPLETED and run.records for run in self.runs)

    @property
    def ended_badly(self) -> bool:
        """Whether a run diverged or failed, so that the others make no complete group."""
        return any(run.state in (State.DIVERGED, State.FAILED) for run in self.runs)

    @property
    def error(self) -> float:
        """The test error at the last evaluated epoch, the mean over the runs that have one; nan without any."""
        return over_seeds(self.runs, at_the_end(ERROR)).mean


def grouped(runs: Iterable[SavedRun], names: Sequence[str]) -> list[Group]:
    """The runs by what they have on these axes, in order of appearance."""
    found: dict[tuple[str, ...], list[SavedRun]] = {}
    for run in runs:
        found.setdefault(tuple(text_of(run, name) for name in names), []).append(run)
    return [Group(dict(zip(names, values, strict=True)), members) for values, members in found.items()]


def over_seeds(
    runs: Iterable[SavedRun], of: Callable[[SavedRun], float], places: str = ".3g", kind: Spread = "std"
) -> Value:
    """A number of these runs, as far as they have records."""
    return Value.of([of(run) for run in runs if run.records], places, kind)


@dataclass(frozen=True)
class Cell:
    """All runs of one (dataset, architecture, loss) in one setting; they differ in learning rate and seed alone."""

    place: Place
    runs: list[SavedRun]

    @cached_property
    def rates(self) -> dict[float, Group]:
        """Learning rate → its runs by seed, ascending; nan, last, where that of another training is not known."""
        rates: dict[float, list[SavedRun]] = {}
        for run in sorted(self.runs, key=lambda one: -1 if one.seed is None else one.seed):
            rates.setdefault(math.nan if math.isnan(run.rate) else run.rate, []).append(run)
        ascending = sorted(rates, key=lambda rate: (math.isnan(rate), rate))
        return {rate: Group({"lr": f"{rate:g}"}, rates[rate]) for rate in ascending}

    @cached_property
    def complete_rates(self) -> dict[float, float]:
        """Learning rate → test error at the LAST epoch, the mean over its seeds; where every one of them completed."""
        return {rate: group.error for rate, group in self.rates.items() if group.completed}

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
        begun = {rate: group for rate, group in self.rates.items() if any(run.records for run in group.runs)}
        order = {rate: (one.ended_badly, math.isnan(one.error), one.error, rate) for rate, one in begun.items()}
        return min(begun, key=order.__getitem__, default=None)

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
        return [] if self.shown_rate is None else [run for run in self.rates[self.shown_rate].runs if run.records]


@dataclass(frozen=True)
class Sweep:
    """The cells by place. settings: the groups that further axes make, by name; none where there is no such axis."""

    cells: dict[Place, Cell]
    settings: dict[str, Group] = field(default_factory=dict)

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
        return sorted({loss for _, _, loss in self.cells}, key=lambda loss: _loss_order(loss, [*self.settings]))

    @property
    def runs(self) -> list[SavedRun]:
        """All of them."""
        return [run for cell in self.cells.values() for run in cell.runs]


def gather(runs: Iterable[SavedRun]) -> Sweep:
    """The runs by cell and, where they have further axes than the paper's grid, by setting.

    Raises ValueError where there is none, and where two have one key.
    """
    found = [run for run in runs if not run.is_simulation]
    if not found:
        raise ValueError("runs: expected some to report on, got none. Name the folder of trainings, or check --where.")
    further = [name for name in axes(found) if name not in PAPER_AXES]
    groups = sorted(grouped(found, further), key=lambda one: [natural_order(value) for value in one.values.values()])
    settings = dict(zip(_names(groups), groups, strict=True)) if further else {"": groups[0]}
    cells: dict[Place, list[SavedRun]] = {}
    for name, group in settings.items():
        for run in group.runs:
            dataset, architecture, loss = run.cell
            cells.setdefault((dataset, architecture, f"{loss}, {name}" if name else loss), []).append(run)
    for members in cells.values():
        seen: dict[str, SavedRun] = {}
        for run in members:
            if (other := seen.setdefault(run.key, run)) is not run:
                named = f"expected one run of key {run.key}, got also {other.path}"
                raise ValueError(f"{run.path}: {named}. Name one of them.")
    made = sorted((Cell(*one) for one in cells.items()), key=lambda cell: _paper_order(cell, [*settings]))
    return Sweep({cell.place: cell for cell in made}, settings if further else {})


def describe_settings(sweep: Sweep) -> str:
    """In a sentence, why there are groups, and what became of them; empty where there are none."""
    if not sweep.settings:
        return ""
    keys = [*next(iter(sweep.settings.values())).values]
    value = next(value for group in sweep.settings.values() if (value := group.values[keys[0]]) != "–")
    return printable(
        f"Beside learning rate, seed and loss these runs differ in {', '.join(keys)}: {len(sweep.settings)} settings, "
        f"each with rows and a colour of its own. Leave some out with --where, as in --where {keys[0]}={value}."
    )


def natural_order(name: str) -> list[tuple[int, float, str]]:
    """A key to sort by in which numbers count as such: vgg11, vgg13, vgg101; 1e-05, 0.0005, 0.1; words after them."""
    try:
        return [(0, float(name), "")]
    except ValueError:
        return [(0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", name)]


def _paper_order(cell: Cell, settings: Sequence[str]) -> tuple[object, ...]:
    """The paper's order of datasets, then of families; others after them; MSE before other losses."""
    dataset, _, loss = cell.place
    column = [*DATASETS].index(dataset) if dataset in DATASETS else len(DATASETS)
    return (column, dataset, *_row_order(cell), *_loss_order(loss, settings))


def _loss_order(loss: str, settings: Sequence[str]) -> tuple[object, ...]:
    name, _, setting = loss.partition(", ")
    return (not name.startswith("mse"), name, settings.index(setting) if setting else -1)


def _row_order(cell: Cell) -> tuple[object, ...]:
    row = FAMILIES.index(cell.family) if cell.family in FAMILIES else len(FAMILIES)
    return (row, cell.family.lower(), natural_order(cell.place[1]))


def _names(groups: Sequence[Group]) -> list[str]:
    """What rows and legends call each setting: its values where all are short, else its number."""
    short = [key.rpartition(".")[2] for key in groups[0].values]
    words = [
        " ".join(f"{key}={value}" for key, value in zip(short, one.values.values(), strict=True)) for one in groups
    ]
    if len(set(short)) == len(short) and all(map(SHORT.fullmatch, words)):
        return words
    return [f"setting {number}" for number in range(1, len(groups) + 1)]
