"""Many saved runs as data frames: `ncexp.load`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncexp.config import nearest
from ncexp.record.array_rows import ArrayRows
from ncexp.record.journal import Record, column
from ncexp.record.saved_run import SavedRun, read_runs
from ncexp.record.states import State
from ncexp.record.text import printable

if TYPE_CHECKING:
    from numpy import ndarray
    from pandas import DataFrame

#: Columns of `Runs.frame` that are the same in all rows of a run.
OF_A_RUN = ("run", "dataset", "architecture", "loss", "lr", "seed", "state")
COLUMNS = (*OF_A_RUN, "epoch", "split", "family", "quantity", "value", "doubt")
#: In frames: the family of names that have none, and the word for what there is not. pandas reads an empty one as nan.
ERRORS, NONE = "errors", "none"
#: Families that rest on the decomposition; in doubt where its terms do not add up.
DECOMPOSED = ("mse", "path")
#: Of epochs and places of names while they are collected; how many of these are looked up at once.
_SMALL, TOGETHER = "int32", 2**16
Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


class Runs:
    """Saved runs; iterates over `SavedRun`. faults: what is wrong with those that cannot be read, by file."""

    def __init__(self, runs: Iterable[SavedRun], faults: Iterable[str] = ()) -> None:
        self._runs = list(runs)
        self.faults = list(faults)

    def __iter__(self) -> Iterator[SavedRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def frame(self, *, common_epochs: bool = False) -> DataFrame:
        """Every number, a row each, by run and epoch; the closed form's fit among them (family path_fit).

        Columns: run (the key), dataset, architecture, loss, lr, seed, state, epoch, split, family, quantity, value,
        doubt: why a number of the decomposition is not to be relied on (`SavedRun.doubts`), none as a rule. A number
        that is not defined at an epoch is nan. A name without family, ``test/error``, has the family errors. Of a
        simulation, architecture is its name; dataset and loss are none, and lr is nan, as lr and seed are where those
        of another training are not known: group with ``dropna=False``.

        common_epochs: of each number only the epochs at which all runs that have it have it, and defined. Then a mean
        over runs is at every epoch one over the same runs; else it jumps where some were evaluated and others not, as
        after each run's own zero-error epoch. Runs that ended before others cut the frame off where they ended, with a
        warning that names them.
        """
        import numpy
        import pandas

        if not self._runs:
            return pandas.DataFrame(columns=list(COLUMNS))
        names: dict[str, int] = {}
        lengths, columns = _columns(self._runs, names)
        known, codes = [split_name(name) for name in names], columns.pop("code")
        for place, name in enumerate(("split", "family", "quantity")):
            kinds = pandas.Categorical([one[place] for one in known])
            columns[name] = pandas.Categorical.from_codes(_looked_up(kinds.codes, codes), dtype=kinds.dtype)
        columns["doubt"] = _doubts(self._runs, lengths, known, columns["epoch"], codes)
        if not common_epochs:
            del codes  # of ten thousand runs each column is some hundred MB
        for name, of_runs in zip(OF_A_RUN, zip(*map(_of_a_run, self._runs), strict=True), strict=True):
            if name in ("lr", "seed"):
                columns[name] = pandas.Series(of_runs).to_numpy().repeat(lengths)
            else:
                kinds = pandas.Categorical(of_runs)
                columns[name] = pandas.Categorical.from_codes(kinds.codes.repeat(lengths), dtype=kinds.dtype)
        frame = pandas.DataFrame(columns, columns=list(COLUMNS), copy=False)
        if not common_epochs:
            return frame
        if words := _ended_early(self._runs):
            warnings.warn(words, stacklevel=2)
        of_run = numpy.arange(len(lengths)).repeat(lengths)
        return frame[_common(of_run, codes, columns["epoch"], columns["value"])].reset_index(drop=True)

    def table(self, by: Sequence[str] | None = None) -> DataFrame:
        """A row a run: its choices and facts by name, its state, the zero-error epoch, why its decomposition is in
        doubt, if it is, and every number of the last evaluated epoch under its full name; of the closed form's fit
        those of that epoch and of the whole fit.

        by: keys, such as ``["loss", "optimizer.weight_decay"]``. The table then has a row for each combination of their
        values: the keys, ``runs`` (how many completed, with numbers), and of every number, the zero-error epoch too,
        the mean over these runs under its name and its standard error, std/√n with n − 1, under ``NAME se``, nan of one
        run. Undefined numbers are left out; where no run completed (``runs`` is 0) the means are over those that have
        numbers so far. These are the numbers of the settings in `ncexp report by=... best=none`; shares, such as
        test/error, are fractions here and percent there. Simulations are left out.
        Raises ValueError for a key that no run has (the nearest is named).
        """
        import pandas

        if by is not None:
            return pandas.DataFrame(_by_values([run for run in self._runs if not run.is_simulation], [*by]))
        rows = [
            {
                "run": run.key,
                "name": run.name,
                **run.parameters,
                "state": str(run.state),
                "zero_error_epoch": run.zero_error_epoch,
                "doubt": "; ".join(
                    f"{split}: {why}" for (epoch, split), why in run.doubts.items() if epoch == run.records[-1]["epoch"]
                )
                or NONE,
                **(last_numbers(run) if run.records else {}),
            }
            for run in self._runs
        ]
        return pandas.DataFrame(rows)


def load(paths: Paths = "outputs", *, where: Mapping[str, Any] | None = None) -> Runs:
    """The saved runs among and under `paths`: folders of outputs, sweeps or runs.

    where: keep the runs whose parameters (`SavedRun.parameters`: dataset, architecture, loss, lr, seed, epochs, every
    option by its path, sizes) or state have these values, compared as text.
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


def select(runs: Iterable[SavedRun], where: Mapping[str, Any]) -> list[SavedRun]:
    """The runs whose parameters, or state, have the values of `where`.

    Raises ValueError for a parameter that no run has.
    """
    found = [(run, {**run.parameters, "state": run.state}) for run in runs]
    known: set[str] = {name for _, parameters in found for name in parameters}
    if unknown := [name for name in where if name not in known]:
        raise ValueError(
            f"where: expected a parameter of the runs, got {unknown[0]!r}. {nearest(unknown[0], [*known])}"
        )
    return [run for run, has in found if all(str(has.get(name)) == str(value) for name, value in where.items())]


def split_name(name: str) -> tuple[str, str, str]:
    """``train/layers/backbone.3/nc1_ratio`` → ("train", "layers/backbone.3", "nc1_ratio").

    >>> split_name("test/error")
    ('test', 'errors', 'error')
    >>> split_name("error")
    ('none', 'errors', 'error')
    """
    *place, quantity = name.split("/")
    return "".join(place[:1]) or NONE, "/".join(place[1:]) or ERRORS, quantity


def _common(run: ndarray, name: ndarray, epoch: ndarray, value: ndarray) -> ndarray:
    """Of each number whether all runs that have one of this name, defined, have it at this epoch, too."""
    import numpy
    import pandas

    defined = pandas.DataFrame({"run": run, "name": name, "epoch": epoch})[~numpy.isnan(value)]
    at_epoch, ever = defined.groupby(["name", "epoch"]).run, defined.groupby("name").run
    common = numpy.zeros(len(value), bool)
    common[defined.index[at_epoch.transform("size") == defined.name.map(ever.nunique())]] = True
    return common


def _ended_early(runs: Sequence[SavedRun]) -> str:
    """The warning where runs end before others; empty where none does."""
    ends = [(int(run.records[-1]["epoch"]), f"{run.path.name} ({run.state})") for run in runs if run.records]
    last = max((epoch for epoch, _ in ends), default=0)
    early = sorted(end for end in ends if end[0] < last)
    if not early:
        return ""
    (epoch, run), others = early[0], len(early) - 1
    return (
        f"common_epochs: expected runs that were all evaluated up to epoch {last}, got {epoch} as the last one of {run}"
        f"{f' and {others} more that end early' if others else ''}. The frame ends there. To leave such runs out: "
        "load(..., where={'state': 'completed'}), or where={'epochs': ...} of one kind."
    )


def _doubts(
    runs: Sequence[SavedRun],
    lengths: Sequence[int],
    known: Sequence[tuple[str, str, str]],
    epochs: ndarray,
    codes: ndarray,
) -> Any:
    """What is in doubt of each number, as a categorical column."""
    import numpy
    import pandas

    words = pandas.Categorical([NONE, *(why for run in runs for why in run.doubts.values())]).categories
    places = {why: place for place, why in enumerate(words)}
    found = numpy.full(len(codes), places[NONE], numpy.int8 if len(words) < 2**7 else numpy.int32)
    end = 0
    for run, length in zip(runs, lengths, strict=True):
        begin, end = end, end + length
        for place in range(begin, end) if run.doubts else ():
            split, family, _ = known[codes[place]]
            if family in DECOMPOSED:
                found[place] = places[run.doubts.get((int(epochs[place]), split), NONE)]
    seen = numpy.zeros(len(words), bool)  # a doubt about an epoch without such numbers is no category
    for first in range(0, len(found), TOGETHER):
        seen[found[first : first + TOGETHER]] = True
    used = numpy.flatnonzero(seen)
    if len(used) < len(words):
        found = _looked_up(numpy.searchsorted(used, range(len(words))).astype(found.dtype), found)
    return pandas.Categorical.from_codes(found, words[used])


def last_numbers(run: SavedRun) -> Record:
    """The last evaluated epoch's numbers. What only the fit's last record has is of the fit as a whole."""
    last, fit = run.records[-1], run.path_fit or [{}]
    first, fitted = fit[0], fit[-1]
    same = fitted.get("epoch") == last["epoch"]
    return {**last, **{name: value for name, value in fitted.items() if same or name not in first}}


def _by_values(runs: Sequence[SavedRun], by: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of `Runs.table(by)`, in the order of the values: numbers, then words."""
    known = {name for run in runs for name in run.parameters}
    if unknown := [name for name in by if name not in known]:
        raise ValueError(f"by: expected a key of the runs, got {unknown[0]!r}. {nearest(unknown[0], known)}")
    groups: dict[tuple[str, ...], list[SavedRun]] = {}
    for run in runs:
        groups.setdefault(tuple(str(run.parameters.get(name)) for name in by), []).append(run)
    for place in sorted(groups, key=lambda texts: [*map(_numbers_first, texts)]):
        first, *_ = members = groups[place]
        begun = [run for run in members if run.records]
        done = [run for run in begun if run.state is State.COMPLETED]
        numbers: dict[str, list[float]] = {}
        for run in done or begun:
            zero = {} if run.zero_error_epoch is None else {"zero_error_epoch": float(run.zero_error_epoch)}
            for name, value in {**zero, **last_numbers(run)}.items():
                if name != "epoch":
                    numbers.setdefault(name, []).extend([] if math.isnan(value) else [value])
        found = {name: _mean_and_error(values) for name, values in numbers.items()}
        row = {name: first.parameters.get(name) for name in by} | {"runs": len(done)}
        for name, (mean, error) in found.items():
            row |= {name: mean, f"{name} se": error}
        yield row


def _numbers_first(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), ""
    except ValueError:
        return True, 0.0, text


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error: nan of fewer than two values, and where one is infinite."""
    import numpy

    exact = numpy.asarray(values, numpy.longdouble)  # holds the sum of the largest float64
    with numpy.errstate(invalid="ignore"):
        mean = float(exact.mean()) if values else math.nan
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return mean, math.nan
    return mean, float(numpy.std(exact, ddof=1)) / math.sqrt(len(values))


def _of_a_run(run: SavedRun) -> tuple[Any, ...]:
    if run.is_simulation:
        return (run.key, NONE, str(run.parameters["simulation"]), NONE, float("nan"), run.raw["seed"], str(run.state))
    return (run.key, *run.cell, run.rate, run.seed, str(run.state))


def _columns(runs: Sequence[SavedRun], names: dict[str, int]) -> tuple[list[int], dict[str, Any]]:
    """How many numbers each run has, and of all: epoch, value, and code, the place of its name.

    names: name → its place, to which new names are added. Each column is made once, as long as it can become, and
    filled: columns of ten thousand runs have some hundred MB, and to join parts of them takes as much again. What is
    not filled is never touched, and so takes no memory.
    """
    import numpy

    most = sum(_size(rows) for run in runs for rows in (run.records, run.training, run.path_fit))
    kinds = {"epoch": "int64", "code": _SMALL, "value": "float64"}
    columns = {name: numpy.empty(most, kind) for name, kind in kinds.items()}
    lengths, end = [], 0
    for run in runs:
        numbers = _numbers(run, names)
        begin, end = end, end + len(numbers[0])
        lengths.append(end - begin)
        for column_, found in zip(columns.values(), numbers, strict=True):
            column_[begin:end] = found
    return lengths, {name: column_[:end] for name, column_ in columns.items()}


def _size(rows: Sequence[Record]) -> int:
    """How many entries they have, the epochs among them."""
    return sum(one.values.size for one in rows.alike) if isinstance(rows, ArrayRows) else sum(map(len, rows))


def _looked_up(table: ndarray, places: ndarray) -> ndarray:
    """``table[places]``, some at a time: NumPy makes 8 bytes of each place first."""
    import numpy

    found = numpy.empty(len(places), table.dtype)
    for first in range(0, len(places), TOGETHER):
        some = slice(first, first + TOGETHER)
        found[some] = table[places[some]]
    return found


def _numbers(run: SavedRun, names: dict[str, int]) -> tuple[ndarray, ndarray, ndarray]:
    """All numbers of one run by epoch: epochs, places of their names, values. Records with the same names are read as
    one array.
    """
    import numpy

    alike: dict[tuple[str, ...], list[ndarray]] = {}
    evaluated = numpy.array(column(run.records, "epoch"))
    for rows, is_later in ((run.records, False), (run.training, True), (run.path_fit, False)):
        for names_here, table in _tables(rows):
            later = ~numpy.isin(table[:, names_here.index("epoch")], evaluated) if is_later else slice(None)
            if len(chosen := table[later]):
                alike.setdefault(names_here, []).append(chosen)
    epochs, codes, values = [numpy.empty(0, _SMALL)], [numpy.empty(0, _SMALL)], [numpy.empty(0)]
    for names_here, tables in alike.items():
        table = numpy.concatenate(tables)
        numbered = [place for place, name in enumerate(names_here) if name != "epoch"]
        places = numpy.array([names.setdefault(names_here[place], len(names)) for place in numbered], _SMALL)
        epochs.append(table[:, names_here.index("epoch")].astype(_SMALL).repeat(len(places)))
        codes.append(numpy.tile(places, len(table)))
        values.append(table[:, numbered].ravel())
    order = numpy.argsort(numpy.concatenate(epochs), kind="stable")
    return tuple(numpy.concatenate(parts)[order] for parts in (epochs, codes, values))  # type: ignore[return-value]


def _tables(rows: Sequence[Record]) -> Iterator[tuple[tuple[str, ...], ndarray]]:
    """Names, and the numbers of the rows that have these (rows, names)."""
    import numpy

    if isinstance(rows, ArrayRows):
        yield from ((one.names, one.values) for one in rows.alike)
        return
    alike: dict[tuple[str, ...], list[Record]] = {}
    for record in rows:
        alike.setdefault(tuple(record), []).append(record)
    for names, records in alike.items():
        numbers = chain.from_iterable(record.values() for record in records)
        yield names, numpy.fromiter(numbers, float, len(records) * len(names)).reshape(len(records), -1)
