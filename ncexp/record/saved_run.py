"""A run as others read it: what it was to be, what became of it, what was measured; from its directory alone.

Nothing is imported that the run imported: a record of somebody else's network is read without their package.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ncexp.config import family_of, labels_of
from ncexp.record.array_rows import ArrayRows
from ncexp.record.console import counted
from ncexp.record.contents import COMPONENTS, read_config, read_facts, read_path_fit
from ncexp.record.files import DamagedFile
from ncexp.record.journal import Record
from ncexp.record.measurements import list_measurements
from ncexp.record.naming import find_runs
from ncexp.record.rows import describe_lacking
from ncexp.record.run_cache import Measured, Stamp, packed, read_cache, stamp, undefined, write_cache
from ncexp.record.run_directory import RunDirectory, name_and_key
from ncexp.record.states import State

#: HPD22, PHD20: the terminal phase of training starts where train accuracy reaches 99.9 %.
ZERO_ERROR = 0.001
#: The analyses whose numbers a list of runs shows: of all runs, and of most.
ONLY_LAST = ("errors", "collapse")


@dataclass(frozen=True)
class SavedRun:
    """One run directory, read.

    raw: config.yaml; facts: sizes and λ; state: as `RunDirectory.actual_state`, but damaged where the journals of a
    run that has ended lack rows that they had; message: why it ended so, or what it lacks; training: a record of every
    epoch (fit/loss, fit/error, fit/lr); records: one of every evaluated epoch, all measurements and the training's
    numbers together; measured: the rows of each measurement, by the journal's path in the run's directory. Records are
    made anew whenever they are asked for: to change one, take them into a list of your own.
    """

    path: Path
    raw: dict[str, Any]
    facts: dict[str, Any]
    state: State
    message: str
    training: Sequence[Record]
    records: Sequence[Record]
    measured: Mapping[str, Sequence[Record]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Readable words, as the directory's without the key."""
        return name_and_key(self.path)[0]

    @property
    def key(self) -> str:
        """The training key: the hash of what determines the weights; see `name_and_key`."""
        return name_and_key(self.path)[1]

    @property
    def sweeps(self) -> list[str]:
        """The sweeps beside this run that asked for it."""
        return sorted(link.parents[1].name for link in self.path.parent.glob(f"sweeps/*/runs/*_{self.key}"))

    @property
    def is_regression(self) -> bool:
        """Whether the data have targets, not classes."""
        return "num_targets" in self.facts

    @property
    def is_simulation(self) -> bool:
        """Whether nothing was trained."""
        return "simulation" in self.raw

    @property
    def is_foreign(self) -> bool:
        """Whether it is of the checkpoints of another training: then its epochs have no journal."""
        return "checkpoints" in self.raw

    @cached_property
    def zero_error_epoch(self) -> int | None:
        """The first epoch after which at most 0.1 % of the training examples were decided wrongly; None: not reached.

        Exact to the epoch of our own trainings: before it is found, the training set is evaluated after every epoch
        whose running error says that it may be near (`ncexp.measure.recorded_training`), not only after the epochs of
        evaluate_at. Of another training's checkpoints it is the first that was measured.
        """
        return zero_error_epoch([*self.training, *self.records])

    @cached_property
    def path_fit(self) -> list[Record]:
        """The closed form's fit, of path_fit.json: a record of each epoch that it was fitted to.

        Empty where there is no fit, or it is one of other epochs than the journals have now: a new one will be written.
        """
        content = read_path_fit(RunDirectory(self.path).path_fit)
        if not content:
            return []
        records = content["records"]
        fitted = {*(record["epoch"] for record in records), *content["excluded_epochs"]}
        start = content["start_epoch"]
        measured = {one["epoch"] for one in self.records if "train/path/rank" in one and one["epoch"] >= start}
        if fitted != measured:
            return []
        return [{name: math.nan if value is None else value for name, value in record.items()} for record in records]

    @cached_property
    def choices(self) -> dict[str, Any]:
        """What was asked for: the choice of every group, its options by path, lr, seed, epochs and the like."""
        return _choices(self.raw)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What people filter and group by: the choices, and what followed from them: family, sizes and λ."""
        family = {"family": family_of(self.raw["architecture"])} if "architecture" in self.raw else {}
        return {**self.choices, **family, **self.facts}

    @property
    def rate(self) -> float:
        """The learning rate; nan where another training's is not known."""
        rate = self.choices.get("lr")
        return math.nan if rate is None else float(rate)

    @property
    def seed(self) -> int | None:
        """The seed; None where another training's is not known."""
        seed = self.choices.get("seed")
        return None if seed is None else int(seed)

    @property
    def cell(self) -> tuple[str, str, str]:
        """(dataset, architecture, loss): where the run stands in the paper's grid; mse_on_path is a loss of its own."""
        chosen = self.choices
        regime = chosen.get("regime", "plain")
        loss = str(chosen["loss"]) if regime == "plain" else f"{chosen['loss']}_{regime}"
        return str(chosen["dataset"]), str(chosen["architecture"]), loss

    @cached_property
    def doubts(self) -> dict[tuple[int, str], str]:
        """(epoch, split) → why its decomposition is not to be relied on; empty as a rule."""
        return {(int(one["epoch"]), split): why for one in self.records for split, why in doubtful_splits(one).items()}

    @property
    def family(self) -> str:
        """The row of the paper's grid: VGG, ResNet, DenseNet, or another family of architectures."""
        return str(self.parameters["family"])


def zero_error_epoch(records: Iterable[Record]) -> int | None:
    """The first epoch whose train/error is at most 0.1 %; None where there is none."""
    reached = [int(one["epoch"]) for one in records if "train/error" in one and one["train/error"] <= ZERO_ERROR]
    return min(reached, default=None)


def doubtful_splits(record: Record) -> dict[str, str]:
    """Split → by how much the terms of L miss it, where that is more than rounding can make of them.

    `mse/identity_residual` · `mse/loss` is held against `mse/loss_rounding`; 1 % of L where it was not recorded yet.
    """
    found = {}
    for split in ("train", "test"):
        residual, loss = (record.get(f"{split}/mse/{name}", 0.0) for name in ("identity_residual", "loss"))
        if residual * loss > record.get(f"{split}/mse/loss_rounding", 0.01 * loss):
            found[split] = f"the terms of L miss it by {residual:.1e} of it, more than rounding allows"
    return found


def read_run(path: Path, only_last: bool = False) -> SavedRun:
    """Read one run directory.

    only_last: of each journal the last row alone, and of the analyses ONLY_LAST alone; only the files' ends are read. A
    completed run is then damaged where its journals do not reach its last epoch; what they lack amid is not seen.

    Raises ValueError where there is no config.yaml; DamagedFile, naming it, for a file that cannot be read.
    """
    try:
        return _read_run(path, only_last)[0]
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DamagedFile:
    """Of a folder that may not be entered, a disk that fails."""
    return DamagedFile(f"{path}: expected a run that can be read, got: {error.strerror}.")


def _read_run(path: Path, only_last: bool) -> tuple[SavedRun, Stamp | None]:
    """The run, and what its files were, where it was read from them and not from the cache beside them."""
    now = stamp(path) if path.name.isprintable() else None
    if now is not None and (known := read_cache(path, now)) is not None:
        return _of_cache(path, known), None
    directory = RunDirectory(path)
    if not directory.config.exists():
        raise ValueError(f"{path}: expected a run directory, got one without config.yaml. Name the folder of a run.")
    if not path.name.isprintable():  # as of bytes that are no UTF-8
        raise DamagedFile(f"{path}: expected a folder's name that can be printed, got {path.name!r}. Rename it.")
    raw = read_config(directory.config)
    state = directory.actual_state() or State.NEW  # first: a final state says that all that follows is there
    message = str((directory.status() or {}).get("message", ""))
    measured = {
        f"{directory.measurements.name}/{one.journal.path.name}": one.records(only_last)
        for one in list_measurements(directory.measurements)
        if not only_last or (one.analysis in ONLY_LAST and not one.distinct)
    }
    training = directory.training.read(only_last)
    read = {directory.training.path.name: training, **measured}
    if state is State.COMPLETED if only_last else state.final:  # what has diverged was not evaluated at its end
        lacking = (_ending_early if only_last else _lacking)(directory, read)
        state, message = (State.DAMAGED, lacking) if lacking else (state, message)
    facts = read_facts(directory.facts, sizes="simulation" not in raw)
    run = SavedRun(path, raw, facts, state, message, training, _merged(training, measured.values()), measured)
    if not only_last:
        _ = run.key, run.path_fit  # of files, too, which are read now: whoever has a run has all of it
    return run, now


def _keep(run: SavedRun, then: Stamp, training: ArrayRows, records: ArrayRows, measured: Measured) -> None:
    """Write the cache of a run that has ended, for whoever reads it next."""
    doubts = [[epoch, split, why] for (epoch, split), why in run.doubts.items()]
    others: dict[str, Any] = {
        "raw": run.raw,
        "facts": run.facts,
        "state": str(run.state),
        "message": run.message,
        "doubts": doubts,
    }
    others |= {"path_fit": [*map(undefined, run.path_fit)], "zero_error_epoch": run.zero_error_epoch}
    write_cache(run.path, then, training, records, measured, **others)


def _of_cache(path: Path, known: Mapping[str, Any]) -> SavedRun:
    fields = {name: known[name] for name in ("raw", "facts", "message", "training", "records", "measured")}
    run = SavedRun(path, state=State(known["state"]), **fields)
    vars(run)["zero_error_epoch"] = known["zero_error_epoch"]
    vars(run)["doubts"] = {(epoch, split): why for epoch, split, why in known["doubts"]}
    vars(run)["path_fit"] = [
        {name: math.nan if value is None else value for name, value in record.items()} for record in known["path_fit"]
    ]
    return run


def read_runs(folders: Iterable[Path], only_last: bool = False) -> tuple[list[SavedRun], list[str]]:
    """The runs among and under `folders`, as `read_run`, and what is wrong with those that cannot be read: each file by
    name.

    Raises ValueError for a folder without runs.
    """
    runs, faults = [], []
    with _without_collection():
        for path in counted(find_runs(folders), "runs read"):
            try:
                runs.append(_read_and_keep(path, only_last))
            except DamagedFile as error:
                faults.append(str(error))
    return runs, faults


@contextmanager
def _without_collection() -> Iterator[None]:
    """Of what is read all is kept: to look through it for what may be freed takes longer with every run."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_and_keep(path: Path, only_last: bool) -> SavedRun:
    """As `read_run`; the next one reads a cache, where that pays."""
    try:
        run, then = _read_run(path, only_last)
    except OSError as error:
        raise _unreadable(path, error) from None
    is_of_cache = isinstance(run.records, ArrayRows)
    if only_last or is_of_cache or (rows := packed(run.training, run.records, run.measured)) is None:
        return run
    training, records, measured = rows
    smaller = replace(run, training=training, records=records, measured=measured)
    names = ("zero_error_epoch", "doubts", "path_fit")
    vars(smaller).update({name: getattr(run, name) for name in names})
    if then is not None and run.state.final:
        _keep(run, then, *rows)
    return smaller


def _lacking(directory: RunDirectory, read: Mapping[str, list[Record]]) -> str:
    """Which journals had more rows, in words; those that a later version of an analysis replaced do not count."""
    counted = directory.counted_rows()
    had = {one: count for one, count in counted.items() if one in read or not (directory.path / one).exists()}
    return describe_lacking(had, {place: len(rows) for place, rows in read.items()})


def _ending_early(directory: RunDirectory, read: Mapping[str, list[Record]]) -> str:
    """As `_lacking`, where the last rows alone were read."""
    had = {place: count for place, count in directory.counted_rows().items() if count and place in read}
    ends = {place: read[place][0]["epoch"] if read[place] else 0 for place in had}
    is_whole = len({*ends.values()}) <= 1 and all(end >= had[place] for place, end in ends.items())
    return "" if is_whole else "its journals do not end with its last epoch"


def _merged(training: list[Record], measured: Iterable[list[Record]]) -> list[Record]:
    """One record for every epoch that was measured: the training's numbers, then those of every measurement."""
    merged: dict[int, Record] = {}
    trained = {int(record["epoch"]): record for record in training}
    for records in measured:
        for record in records:
            epoch = int(record["epoch"])
            merged.setdefault(epoch, {"epoch": epoch, **trained.get(epoch, {})}).update(record)
    return [merged[epoch] for epoch in sorted(merged)]


def _choices(raw: Mapping[str, Any]) -> dict[str, Any]:
    """``dataset: digits``, ``dataset.test_fraction: 0.2``, ..., ``lr``, ``seed``; nested options by their path."""
    flat: dict[str, Any] = {}
    for group in (*COMPONENTS, "simulation"):
        if group in raw:
            _flatten(group, raw[group], flat)
    if digest := flat.pop("architecture.weights_sha256", None):  # a file is its bytes, wherever it lay
        flat["architecture.weights"] = f"{Path(str(flat.get('architecture.weights'))).name}@{str(digest)[:8]}"
    if augment := flat.pop("dataset.augment", None):  # "crop+flip(0.5)", of a list of {name: options}
        parts = [next(iter(one.items())) for one in augment]
        said = [(name, ",".join(str(value) for value in given.values() if value is not None)) for name, given in parts]
        flat["dataset.augment"] = "+".join(f"{name}({options})" if options else name for name, options in said)
    if "optimizer" in raw:
        flat["lr"] = raw["optimizer"].get("lr")
    names = ("seed", "epochs", "batch_size", "precision", "compile")
    flat |= {name: raw[name] for name in names if name in raw}
    # Runs of before there was a choice have none written down.
    return flat | ({"regime": raw.get("regime", "plain")} if "epochs" in raw else {})


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping) and "_target_" in value:
        into[prefix] = value.get("name", value["_target_"])
        for name, option in value.items():
            if name not in ("_target_", *labels_of(prefix)):
                _flatten(f"{prefix}.{name}", option, into)
    else:
        into[prefix] = value
