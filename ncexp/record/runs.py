"""Many saved runs as data frames: `ncexp.load`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ncexp.config import nearest
from ncexp.record.glance import Glance
from ncexp.record.journal import Record
from ncexp.record.saved_run import SavedRun, read_runs
from ncexp.record.text import printable

if TYPE_CHECKING:
    from numpy import ndarray
    from pandas import DataFrame

#: Columns of `Runs.frame` that are the same in all rows of a run.
OF_A_RUN = ("run", "dataset", "architecture", "loss", "lr", "seed", "state")
COLUMNS = (*OF_A_RUN, "epoch", "split", "family", "quantity", "value", "doubt")
#: Families that rest on the decomposition; in doubt where its terms do not add up.
DECOMPOSED = ("mse", "path")
Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
Chosen = TypeVar("Chosen", SavedRun, Glance)


class Runs:
    """Saved runs; iterates over `SavedRun`. faults: what is wrong with those that cannot be read, by file."""

    def __init__(self, runs: Iterable[SavedRun], faults: Iterable[str] = ()) -> None:
        self._runs = list(runs)
        self.faults = list(faults)

    def __iter__(self) -> Iterator[SavedRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def frame(self) -> DataFrame:
        """Every number, a row each, by run and epoch; the closed form's fit among them (family path_fit).

        Columns: run (the key), dataset, architecture, loss, lr, seed, state, epoch, split, family, quantity, value,
        doubt: why a number of the decomposition is not to be relied on (`SavedRun.doubts`), empty as a rule. A number
        that is not defined at an epoch is nan; a name without family has an empty one. Of a simulation,
        architecture is its name; dataset and loss are empty, and lr is nan, as lr and seed are where those of another
        training are not known.
        """
        import numpy
        import pandas

        if not self._runs:
            return pandas.DataFrame(columns=list(COLUMNS))
        names: dict[str, int] = {}
        parts = [_Numbers.of(run, names) for run in self._runs]
        lengths = [len(part.values) for part in parts]
        columns: dict[str, Any] = {}
        for column, of_runs in zip(OF_A_RUN, zip(*map(_of_a_run, self._runs), strict=True), strict=True):
            series = pandas.Series(of_runs) if column in ("lr", "seed") else pandas.Series(of_runs, dtype="category")
            columns[column] = series.repeat(lengths).reset_index(drop=True)
        columns["epoch"] = numpy.concatenate([part.epochs for part in parts])
        codes = numpy.concatenate([part.codes for part in parts])
        for place, column in enumerate(("split", "family", "quantity")):
            columns[column] = pandas.Categorical([split_name(name)[place] for name in names]).take(codes)
        columns["value"] = numpy.concatenate([part.values for part in parts])
        doubts = numpy.concatenate([_doubts(run, part, names) for run, part in zip(self._runs, parts, strict=True)])
        columns["doubt"] = pandas.Categorical(doubts)
        return pandas.DataFrame(columns, columns=list(COLUMNS))

    def table(self) -> DataFrame:
        """A row a run: its choices and facts by name, its state, the zero-error epoch, why its decomposition is in
        doubt, if it is, and every number of the last evaluated epoch under its full name; of the closed form's fit
        those of that epoch and of the whole fit.
        """
        import pandas

        rows = [
            {
                "run": run.key,
                "name": run.name,
                **run.parameters,
                "state": str(run.state),
                "zero_error_epoch": run.zero_error_epoch,
                "doubt": "; ".join(f"{split}: {why}" for split, why in _last_doubts(run)),
                **(_last(run) if run.records else {}),
            }
            for run in self._runs
        ]
        return pandas.DataFrame(rows)


def load(paths: Paths = "outputs", *, where: Mapping[str, Any] | None = None) -> Runs:
    """The saved runs among and under `paths`: folders of outputs, sweeps or runs.

    where: keep the runs whose parameters (`SavedRun.parameters`: dataset, architecture, loss, lr, seed, epochs, every
    option by its path, sizes) have these values, compared as text.
    A run of which a file is damaged is left out, with a warning that names the file.
    Raises ValueError for a folder without runs, and for a parameter that no run has (the nearest is named).
    """
    runs = read_all(paths, where or {})
    for fault in runs.faults:
        warnings.warn(f"left out: {printable(fault)}", stacklevel=2)
    return runs


def read_all(paths: Paths, where: Mapping[str, Any]) -> Runs:
    """As `load`, without warnings: for commands, which print `Runs.faults`."""
    folders = [Path(paths)] if isinstance(paths, str | PathLike) else [Path(path) for path in paths]
    runs, faults = read_runs(folders)
    return Runs(select(runs, where), faults)


def select(runs: Iterable[Chosen], where: Mapping[str, Any]) -> list[Chosen]:
    """The runs whose parameters have the values of `where`. Raises ValueError for a parameter that no run has."""
    found = list(runs)
    known: set[str] = {name for run in found for name in run.parameters}
    if unknown := [name for name in where if name not in known]:
        raise ValueError(
            f"where: expected a parameter of the runs, got {unknown[0]!r}. {nearest(unknown[0], [*known])}"
        )
    return [run for run in found if all(str(run.parameters.get(name)) == str(value) for name, value in where.items())]


def split_name(name: str) -> tuple[str, str, str]:
    """``train/layers/backbone.3/nc1_ratio`` → ("train", "layers/backbone.3", "nc1_ratio").

    >>> split_name("test/error")
    ('test', '', 'error')
    >>> split_name("error")
    ('', '', 'error')
    """
    *place, quantity = name.split("/")
    return "".join(place[:1]), "/".join(place[1:]), quantity


def _doubts(run: SavedRun, numbers: _Numbers, names: Mapping[str, int]) -> ndarray:
    """What is in doubt of each number."""
    import numpy

    found = numpy.full(len(numbers.values), "", dtype=object)
    if run.doubts:
        known = [split_name(name) for name in names]
        for place, (epoch, code) in enumerate(zip(numbers.epochs.tolist(), numbers.codes.tolist(), strict=True)):
            if known[code][1] in DECOMPOSED:
                found[place] = run.doubts.get((epoch, known[code][0]), "")
    return found


def _last_doubts(run: SavedRun) -> list[tuple[str, str]]:
    return [(split, why) for (epoch, split), why in run.doubts.items() if epoch == run.records[-1]["epoch"]]


def _last(run: SavedRun) -> Record:
    """The last evaluated epoch's numbers. What only the fit's last record has is of the fit as a whole."""
    last, fit = run.records[-1], run.path_fit or [{}]
    first, fitted = fit[0], fit[-1]
    same = fitted.get("epoch") == last["epoch"]
    return {**last, **{name: value for name, value in fitted.items() if same or name not in first}}


def _of_a_run(run: SavedRun) -> tuple[Any, ...]:
    if run.is_simulation:
        return (run.key, "", str(run.parameters["simulation"]), "", float("nan"), run.raw["seed"], str(run.state))
    return (run.key, *run.cell, run.rate, run.seed, str(run.state))


@dataclass(frozen=True)
class _Numbers:
    """All numbers of one run as arrays of equal length, by epoch: epochs, places of their names, values."""

    epochs: ndarray
    codes: ndarray
    values: ndarray

    @classmethod
    def of(cls, run: SavedRun, names: dict[str, int]) -> _Numbers:
        """names: name → its place, to which new names are added. Records with the same names are read as one array."""
        import numpy

        alike: dict[tuple[str, ...], list[Record]] = {}
        evaluated = {record["epoch"] for record in run.records}
        later = (one for one in run.training if one["epoch"] not in evaluated)
        for record in (*run.records, *later, *run.path_fit):
            alike.setdefault(tuple(record), []).append(record)
        epochs, codes, values = [numpy.empty(0, int)], [numpy.empty(0, int)], [numpy.empty(0)]
        for names_here, records in alike.items():
            numbers = chain.from_iterable(record.values() for record in records)
            table = numpy.fromiter(numbers, float, len(records) * len(names_here)).reshape(len(records), -1)
            numbered = [place for place, name in enumerate(names_here) if name != "epoch"]
            places = [names.setdefault(names_here[place], len(names)) for place in numbered]
            epochs.append(table[:, names_here.index("epoch")].astype(int).repeat(len(places)))
            codes.append(numpy.tile(places, len(records)))
            values.append(table[:, numbered].ravel())
        order = numpy.argsort(numpy.concatenate(epochs), kind="stable")
        return cls(*(numpy.concatenate(parts)[order] for parts in (epochs, codes, values)))
