"""preset=han2022: the report of the paper's grid, HPD22, with its rules, tables and figures.

A cell is a dataset, network and loss; its runs differ in learning rate and seed alone. In every cell the learning rate
with the lowest test error at the LAST epoch is kept, as the paper does; a rate counts once all its runs completed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from ncexp.record import FAMILIES, SavedRun, State
from ncexp.record.quantities import selected
from ncexp.report.columns import Column, axes, natural_order, text_of
from ncexp.report.numbers import (
    ACCURACIES,
    PERP,
    ROBUSTNESS,
    TERMS,
    Value,
    at_the_end,
    gain,
    mean,
    rate_of_fall,
    robustness_gain,
    small_perp_epoch,
)
from ncexp.report.study import Group, Setting, check_runs, over_seeds
from ncexp.report.tables import Entry, Table

#: Dataset, architecture, loss; mse_on_path is a loss of its own.
Place = tuple[str, str, str]
#: The columns of HPD22's figures, in the printed order: our name → the printed one.
DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "svhn": "SVHN", "stl10": "STL10"}
#: The axes of the paper's grid.
PAPER_AXES = ("dataset", "architecture", "loss", "regime", "lr")
#: What marks a learning rate that is the smallest or the largest of its cell's grid.
EDGE = " (edge)"
#: With which loss others are compared.
OTHER_LOSS = "cross_entropy"
PLACE = ["dataset", "network", "loss"]
RULE = (
    "Of every cell the learning rate with the lowest test error at the last epoch is shown, as in the paper. That "
    "makes the test errors shown optimistic: the rate was chosen by them."
)
AT_EDGE = f"{EDGE.strip()} marks a rate that is the smallest or the largest tried: a better one may lie beyond."
SO_FAR = (
    "Where no rate is complete, the one that leads so far is shown, with its state. Tables that compare the ends of "
    "trainings leave such cells out."
)


@dataclass(frozen=True, kw_only=True)
class Cell(Setting):
    """A setting of the paper's grid. place: dataset, architecture, loss."""

    place: Place
    free: tuple[str, ...] = ("lr",)

    @cached_property
    def rates(self) -> dict[float, Group]:
        """Learning rate → its runs by seed, ascending; nan, last, where that of another training is not known."""
        by_rate = {one.runs[0].rate: one for one in self.options}
        return {rate: by_rate[rate] for rate in sorted(by_rate, key=lambda rate: (math.isnan(rate), rate))}

    @cached_property
    def complete_rates(self) -> dict[float, float]:
        """Learning rate → test error at the LAST epoch, the mean over its seeds; where every one of them completed."""
        return {rate: group.error for rate, group in self.rates.items() if group.completed}

    @property
    def best_rate(self) -> float | None:
        """The complete rate with the lowest test error at the last epoch, of equals the smallest; None without any."""
        return self.shown_rate if self.completed else None

    @property
    def shown_rate(self) -> float | None:
        """The best rate; where none is complete, the one that leads so far; None where no run has a number yet."""
        return None if self.shown is None else self.shown.runs[0].rate

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the smallest or the largest of several tried: a better one may lie beyond."""
        return len(self.rates) > 1 and self.best_rate in (min(self.rates), max(self.rates))

    @property
    def family(self) -> str:
        """Of the architecture: VGG, ResNet, DenseNet or another."""
        return self.runs[0].family


@dataclass(frozen=True)
class Sweep:
    """The cells by place."""

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
        """What is compared within a panel, MSE first."""
        return sorted({loss for _, _, loss in self.cells}, key=_loss_order)

    @property
    def runs(self) -> list[SavedRun]:
        """All of them."""
        return [run for cell in self.cells.values() for run in cell.runs]


def gather(runs: Iterable[SavedRun]) -> Sweep:
    """The runs by cell.

    Raises ValueError where there is none, where two have one key, and where runs differ in more than the paper's.
    """
    found = [run for run in runs if not run.is_simulation]
    check_runs(found)
    if further := [name for name in axes(found) if name not in PAPER_AXES]:
        raise ValueError(
            f"preset=han2022: expected runs that differ in {', '.join(PAPER_AXES)} and seed alone, got also "
            f"{', '.join(further)}. Leave the preset out, or some runs, as in --where "
            f"{further[0]}={text_of(found[0], further[0])}."
        )
    cells: dict[Place, list[SavedRun]] = {}
    for run in found:
        cells.setdefault(run.cell, []).append(run)
    made = (
        Cell(values=dict(zip(PLACE, place, strict=True)), runs=members, place=place) for place, members in cells.items()
    )
    return Sweep({cell.place: cell for cell in sorted(made, key=_paper_order)})


def _paper_order(cell: Cell) -> tuple[object, ...]:
    """The paper's order of datasets, then of families; others after them; MSE before other losses."""
    dataset, _, loss = cell.place
    column = [*DATASETS].index(dataset) if dataset in DATASETS else len(DATASETS)
    return (column, dataset, *_row_order(cell), *_loss_order(loss))


def _loss_order(loss: str) -> tuple[object, ...]:
    return (not loss.startswith("mse"), loss)


def _row_order(cell: Cell) -> tuple[object, ...]:
    row = FAMILIES.index(cell.family) if cell.family in FAMILIES else len(FAMILIES)
    return (row, cell.family.lower(), natural_order(cell.place[1]))


def results(sweep: Sweep) -> Table:
    """One row a cell, at its best learning rate: accuracies in percent, gain in points, collapse at the end.

    Where no rate is complete, the one that leads so far stands there, with its state and its last evaluated epoch.
    """
    measured = {name for cell in sweep.cells.values() for run in cell.kept for name in run.records[-1]}
    at_end = [Column(name, row) for name, row in selected("report") if name in measured]
    rows = [
        [*cell.place, _shown_rate(cell), str(len(cell.kept))]
        + [over_seeds(cell.kept, of, places) for of, places in ACCURACIES.values()]
        + [over_seeds(cell.kept, column.of) for column in at_end]
        for cell in sweep.cells.values()
    ]
    columns = [*PLACE, "learning rate", "seeds", *ACCURACIES] + [column.label for column in at_end]
    return Table.of("results", "Every cell at its best learning rate", columns, rows)


def differences(sweep: Sweep) -> Table:
    """Each cell of an MSE loss beside that of cross-entropy, each at its best rate.

    Means ± standard errors over the seeds of which both have the number; the difference, MSE less cross-entropy, is
    paired: one seed draws the same first weights and the same order of examples for both. A standard error needs two
    seeds. Of the cells with a complete rate.
    """
    quantities = {**ACCURACIES, "robustness at the end": (at_the_end(ROBUSTNESS), ".4f")}
    rows: list[list[Entry]] = []
    for (dataset, network, loss), cell in sweep.cells.items():
        other = sweep.cells.get((dataset, network, OTHER_LOSS))
        if not loss.startswith("mse") or other is None or None in (cell.best_rate, other.best_rate):
            continue
        seeds = {run.seed for run in (*cell.kept, *other.kept)}
        for quantity, (of, places) in quantities.items():
            values, others = _by_seed(cell, of), _by_seed(other, of)
            if not (values and others):
                continue
            both = sorted(values.keys() & others.keys())
            pairs = [(values[seed], others[seed], values[seed] - others[seed]) for seed in both]
            compared = (Value.of([pair[place] for pair in pairs], places, "se") for place in range(3))
            counted = f"{len(both)} of {len(seeds)}" if len(both) < len(seeds) else str(len(both))
            rows.append([dataset, network, quantity, loss, *compared, counted])
    columns = ["dataset", "network", "quantity", "loss", "value", OTHER_LOSS, "difference", "seeds of both"]
    return Table.of("differences", "MSE beside cross-entropy: mean ± standard error over seeds", columns, rows)


def _by_seed(cell: Cell, of: Callable[[SavedRun], float]) -> dict[int, float]:
    """Seed → the number at the cell's best rate, where it is defined."""
    found = {run.seed: of(run) for run in cell.kept if run.seed is not None}
    return {seed: value for seed, value in found.items() if not math.isnan(value)}


def gains(sweep: Sweep) -> Table:
    """Median and mean over the cells of what is won from zero error to the end, by loss, as HPD22 states it.

    Test accuracy in points; robustness, where it was measured at both epochs.
    """
    rows: list[list[Entry]] = []
    for loss in sweep.losses:
        cells = [cell for place, cell in sweep.cells.items() if place[2] == loss]
        row: list[Entry] = [loss]
        for of in (gain, robustness_gain):
            found = [
                value for cell in cells if cell.best_rate is not None and (value := over_seeds(cell.kept, of)).seeds
            ]
            means = [value.mean for value in found]
            both = (f"{of_all(means):.4f}" for of_all in (statistics.median, mean)) if found else ("–", "–")
            seeds, of_seeds = (sum(getattr(value, name) for value in found) for name in ("seeds", "of_seeds"))
            counted = f" ({seeds} of {of_seeds} seeds)" if seeds < of_seeds else ""
            row += [f"{len(found)} of {len(cells)}{counted}", *both]
        rows.append(row)
    columns = ["loss", "cells with zero error", "median gain, points", "mean gain, points"]
    columns += ["cells with robustness", "median gain in robustness", "mean gain in robustness"]
    return Table.of("gains", "Test accuracy and robustness won after zero error", columns, rows)


def decomposition(sweep: Sweep) -> Table:
    """HPD22 Figure 2's two claims as numbers, a row a cell: where L_LS⊥ stays small, how fast terms fall.

    Of the cells with a complete rate; mean ± deviation over the seeds.
    """
    terms = ("loss_nc1", "loss_nc1_data")
    rows = [
        [*cell.place, str(len(cell.kept))]
        + [over_seeds(cell.kept, partial(small_perp_epoch, beside=term), ".0f") for term in terms]
        + [over_seeds(cell.kept, partial(rate_of_fall, term=term), ".2f") for term in TERMS.values()]
        for cell in sweep.cells.values()
        if cell.best_rate is not None and any(PERP in run.records[-1] for run in cell.kept)
    ]
    columns = [*PLACE, "seeds", "L_LS⊥ < L_NC1/10 from epoch", "of its data part", *(f"p of {name}" for name in TERMS)]
    title = "Figure 2 in numbers: L_LS⊥ beside L_NC1; terms as epoch^p after zero error, on train features"
    return Table.of("decomposition", title, columns, rows)


def learning_rates(sweep: Sweep) -> Table:
    """Test error in percent at the last epoch of every cell and rate; the chosen one in brackets, marked at an edge."""
    rates = sorted({rate for cell in sweep.cells.values() for rate in cell.rates})
    rows = [[*cell.place, *(_rate_entry(cell, rate) for rate in rates)] for cell in sweep.cells.values()]
    columns = [*PLACE, *(f"{rate:g}" for rate in rates)]
    return Table.of("learning_rates", "Test error % at the last epoch by learning rate", columns, rows)


def _shown_rate(cell: Cell) -> str:
    if cell.shown_rate is None:
        return f"– ({_states(cell.runs)})"
    rate = "–" if math.isnan(cell.shown_rate) else f"{cell.shown_rate:.4g}"
    if cell.best_rate is not None:
        return rate + (EDGE if cell.at_edge else "")
    epochs = sorted({int(run.records[-1]["epoch"]) for run in cell.kept})
    return f"{rate} ({_states(cell.kept)}, at epoch {' to '.join(map(str, dict.fromkeys([epochs[0], epochs[-1]])))})"


def _rate_entry(cell: Cell, rate: float) -> str:
    """The error at the last epoch; of a rate that is not complete its states, and if it leads the error so far."""
    group = cell.rates.get(rate)
    if group is None:
        return ""
    error = f"{100 * group.error:.2f}"
    if rate not in cell.complete_rates:
        return f"[{error}] ({_states(group.runs)})" if rate == cell.shown_rate else _states(group.runs)
    seeds, most = len(group.runs), max(len(one.runs) for one in cell.rates.values())
    counted = f" ({seeds} of {most} seeds)" if seeds < most else ""
    return (f"[{error}]{EDGE if cell.at_edge else ''}" if rate == cell.best_rate else error) + counted


def _states(runs: Sequence[SavedRun]) -> str:
    return ", ".join(sorted({run.state for run in runs if run.state is not State.COMPLETED}))


def describe(sweep: Sweep, states: str) -> str:
    """What the report is of, and by which rules; states: how many runs are in which."""
    cells = sweep.cells.values()
    said = [
        f"{len(sweep.runs)} runs in {len(cells)} cells: {states}.",
        RULE,
        AT_EDGE if any(cell.at_edge for cell in cells) else "",
        SO_FAR if any(cell.best_rate is None for cell in cells) else "",
    ]
    return " ".join(filter(None, said))
