"""The cells of a sweep and, in each, the learning rate that the paper would keep (HPD22)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ncexp.run_record import RunRecord

Place = tuple[str, str, str]
#: What may differ among the runs of a cell.
FREE = ("lr", "optimizer.lr", "seed", "analysis")


@dataclass(frozen=True)
class Cell:
    """All runs of one (dataset, architecture, loss); they differ in learning rate and seed alone."""

    place: Place
    runs: list[RunRecord]

    @cached_property
    def rates(self) -> dict[float, list[RunRecord]]:
        """Learning rate → its runs, one a seed, ascending."""
        rates = sorted({run.rate for run in self.runs})
        return {rate: sorted(self._at(rate), key=lambda run: int(run.parameters["seed"])) for rate in rates}

    @cached_property
    def complete_rates(self) -> dict[float, float]:
        """Learning rate → test error at the LAST epoch, the mean over its seeds; where every one of them completed."""
        complete = {rate: runs for rate, runs in self.rates.items() if all(run.state == "completed" for run in runs)}
        return {
            rate: statistics.fmean(run.records[-1]["test/error"] for run in runs) for rate, runs in complete.items()
        }

    @cached_property
    def best_rate(self) -> float | None:
        """The complete rate with the lowest test error at the last epoch, of equals the smallest; None without any."""
        return min(self.complete_rates, key=lambda rate: (self.complete_rates[rate], rate), default=None)

    @property
    def best(self) -> list[RunRecord]:
        """The runs, one a seed, of the best rate; none where there is no complete rate."""
        return [] if self.best_rate is None else self.rates[self.best_rate]

    def _at(self, rate: float) -> Iterable[RunRecord]:
        return (run for run in self.runs if run.rate == rate)


@dataclass(frozen=True)
class Sweep:
    """The cells, with their places' names in the order of first appearance."""

    cells: dict[Place, Cell]

    @property
    def datasets(self) -> list[str]:
        """Columns of the paper's grid."""
        return list(dict.fromkeys(dataset for dataset, _, _ in self.cells))

    @property
    def architectures(self) -> list[str]:
        """Rows of the paper's grid."""
        return list(dict.fromkeys(architecture for _, architecture, _ in self.cells))

    @property
    def losses(self) -> list[str]:
        """What is compared within a panel."""
        return sorted({loss for _, _, loss in self.cells}, key=lambda loss: (not loss.startswith("mse"), loss))

    @property
    def runs(self) -> list[RunRecord]:
        """All of them."""
        return [run for cell in self.cells.values() for run in cell.runs]


def gather(runs: Iterable[RunRecord], where: Mapping[str, str] | None = None) -> Sweep:
    """The runs whose parameters have the values of `where`, by cell.

    Raises ValueError where none is left, where two have one key, and where the runs of a cell differ in more than
    learning rate and seed: then "best" would compare what the paper does not.
    """
    wanted = [run for run in runs if all(str(run.parameters.get(k)) == v for k, v in (where or {}).items())]
    if not wanted:
        raise ValueError(f"runs: expected some to report on, got none where {dict(where or {})}. Check --where.")
    cells: dict[Place, list[RunRecord]] = {}
    for run in wanted:
        cells.setdefault(run.cell, []).append(run)
    for place, members in cells.items():
        _check_cell(place, members)
    return Sweep({place: Cell(place, cells[place]) for place in sorted(cells, key=_paper_order)})


def _paper_order(place: Place) -> tuple[int, Place]:
    """The paper's order of the datasets; others after them."""
    paper = ["mnist", "fashion_mnist", "cifar10", "svhn", "stl10"]
    return (paper.index(place[0]) if place[0] in paper else len(paper), place)


def _check_cell(place: Place, runs: Sequence[RunRecord]) -> None:
    seen: dict[str, RunRecord] = {}
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
