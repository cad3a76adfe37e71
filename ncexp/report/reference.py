"""Reference results: what runs of one configuration came to, and whether another run comes to the same.

The rule. Of n seeds (at least three) every compared number, a quantity at one of five epochs, has a mean and a
standard deviation s (n − 1) over the seeds; of the logarithms where the catalogue draws the quantity on a logarithmic
axis and all seeds are positive. One more run lies off by

    t = |x − mean| / (s √(1 + 1/n)),    of Student's distribution with m = min(n − 1, 5) degrees of freedom,

so that s is itself only known from n seeds counts. More than five degrees would trust the tails of seeds to be normal.
A run agrees where both hold:

- each quantity: not more than half of its epochs have t beyond the 99.8 % interval, the band. Epochs of one quantity
  depend on one another in an unknown way; that more than half of them lie outside has at most twice the chance of one
  (0.4 %), whatever the dependence (Rüger 1978). This finds one wrong number, however right the others are.
- the whole: at most 10 % of all numbers have t beyond their 99 % interval. On average it is 1 %. This finds what moves
  many numbers a little, such as another learning rate.

False alarms and power were measured on seeds of a real training (`benchmarks/reference_alarms.py`, docs/reference.md).
A hundred quantities do not count as a hundred tests: they depend on one another, and counted as about a dozen there.

Least deviations. s is not taken below what the number can resolve: of a share of N examples √(p(1 − p)/N + 1/(2N²)),
counting error, 0.7 of an example at p = 0; of the zero-error epoch half an epoch; of others 10⁻⁵ of the value.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from scipy.special import stdtrit

from ncexp.record import RunDirectory, SavedRun, State, read_environment, read_json
from ncexp.record.quantities import find
from ncexp.report.columns import differing, text_of

#: Of the band of each quantity; of the intervals of which the whole may lie outside with a share of MOST_OUTSIDE.
LEVEL, WHOLE_LEVEL, MOST_OUTSIDE = 0.998, 0.99, 0.1
FEWEST_SEEDS, MOST_DEGREES, NUM_EPOCHS = 3, 5, 5
#: Of the run as a whole, beside the quantities of its epochs.
ZERO_EPOCH, WHOLE = "zero_error_epoch", "run"
#: Set by the configuration, a whole number, or nothing but rounding.
NOT_COMPARED = (
    *("lr", "rank", "condition_number", "snr_rounding", "identity_residual", "loss_rounding", "rank_means"),
    *("ridge_weight", "ridge_bias"),
)
#: Least s: relative, of any number; absolute, of the zero-error epoch.
RESOLVED, HALF_AN_EPOCH = 1e-5, 0.5
#: In what runs of one reference may differ.
FREE = ("seed", "dataset.root")
#: (quantity, epoch or WHOLE).
Number = tuple[str, str]


@dataclass(frozen=True)
class Verdict:
    """A run against a reference. values and bands (low, mean, high; of LEVEL) by number; outside: the numbers beyond
    their interval of WHOLE_LEVEL, with nan where the run has the quantity, but not at that epoch; differing: quantities
    of which more than half of the epochs lie outside the band; lacking: quantities that were never measured.
    """

    values: dict[Number, float]
    bands: dict[Number, tuple[float, float, float]]
    outside: list[Number]
    differing: list[str]
    lacking: list[str]

    @property
    def share(self) -> float:
        """The share of the compared numbers that lie outside."""
        return len(self.outside) / len(self.values)

    @property
    def agrees(self) -> bool:
        """Whether no quantity differs, and at most MOST_OUTSIDE of all numbers lie outside."""
        return not self.differing and self.share <= MOST_OUTSIDE


def judge(deviations: Mapping[Number, float], seeds: int) -> tuple[list[Number], list[str]]:
    """The numbers outside, and the quantities that differ (see Verdict), of t by number, of a reference of n seeds."""
    band, interval = (_limit(seeds, level) for level in (LEVEL, WHOLE_LEVEL))
    by_quantity: dict[str, list[float]] = {}
    for (quantity, _), deviation in deviations.items():
        by_quantity.setdefault(quantity, []).append(deviation)
    differing = [quantity for quantity, found in by_quantity.items() if statistics.median_low(found) > band]
    return [one for one, deviation in deviations.items() if deviation > interval], differing


def reference_directory() -> Path:
    """The folder of the shipped references: in the wheel inside the package, in a clone at the repository's top."""
    package = Path(__file__).parents[1]
    installed = package / "reference"
    return installed if installed.is_dir() else package.parent / "reference"


def read_reference(name: str) -> dict[str, Any]:
    """A reference by its file, or by its name among the shipped ones. Raises ValueError where there is none."""
    path = Path(name) if name.endswith(".json") else reference_directory() / f"{name}.json"
    content = read_json(path)
    if content is None:
        valid = ", ".join(sorted(other.stem for other in reference_directory().glob("*.json")))
        raise ValueError(f"reference: expected a name or a file.json, got {name!r}. Valid: {valid}.")
    if not isinstance(content.get("bands"), dict):
        raise ValueError(f"{path}: expected the bands of a reference, got none. Make it with `ncexp reference`.")
    return content


def make_reference(runs: Sequence[SavedRun], name: str) -> dict[str, Any]:
    """The content of reference/<name>.json, of runs that differ in their seed alone.

    Raises ValueError for fewer than three, for one that is not completed, and for other differences.
    """
    _check(runs)
    common = sorted(set.intersection(*({int(one["epoch"]) for one in run.records} for run in runs)))
    epochs = sorted({common[round(k * (len(common) - 1) / (NUM_EPOCHS - 1))] for k in range(NUM_EPOCHS)})
    numbers = [numbers_of(run, epochs) for run in runs]
    shared = [one for one in numbers[0] if all(math.isfinite(other.get(one, math.nan)) for other in numbers)]
    values = numpy.array([[of_run[one] for one in shared] for of_run in numbers])
    written: dict[str, dict[str, list[float]]] = {}
    for (quantity, epoch), band in zip(
        shared, Bands.of_seeds(shared, values, runs[0].facts).of_level(LEVEL), strict=True
    ):
        written.setdefault(quantity, {})[epoch] = [float(f"{one:.6g}") for one in band]
    left_out = []
    for place, one in enumerate(values):
        others = Bands.of_seeds(shared, numpy.delete(values, place, axis=0), runs[0].facts)
        left_out.append(judge(dict(zip(shared, others.deviations(one).tolist(), strict=True)), len(runs) - 1))
    environments = [read_environment(RunDirectory(run.path).environment) for run in runs]
    return {
        "name": name,
        "seeds": sorted(run.seed for run in runs if run.seed is not None),
        "configuration": configuration_of(runs[0]),
        "versions": {key: _each(environments, key) for key in ("ncexp", "torch", "torchvision", "python")},
        "machine": {key: _each(environments, key) for key in ("device", "instructions", "threads")},
        "level": LEVEL,
        "leave_one_out": [float(f"{len(outside) / len(shared):.4g}") for outside, _ in left_out],
        "refused": [len(outside) > MOST_OUTSIDE * len(shared) or bool(differing) for outside, differing in left_out],
        "bands": written,
    }


def reference_text(content: Mapping[str, Any]) -> str:
    """A reference as its file has it: JSON, one line a key and one a quantity."""
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in content.items() if key != "bands")
    bands = ",\n".join(f"  {json.dumps(quantity)}: {json.dumps(of_it)}" for quantity, of_it in content["bands"].items())
    return f'{{\n{head} "bands": {{\n{bands}\n }}\n}}\n'


def configuration_of(run: SavedRun) -> dict[str, Any]:
    """The choices that runs of one reference share: all but the seed, the folder that the data lie in, and options
    without a value, which earlier versions may not have had.
    """
    chosen = {name: value for name, value in run.choices.items() if value is not None}
    return {name: value for name, value in chosen.items() if name not in FREE}


def compare_with_reference(run: SavedRun, reference: Mapping[str, Any]) -> Verdict:
    """Which of the reference's numbers the run has, and which of these lie outside their intervals.

    A quantity that the run has, but not at an epoch of the reference, counts as outside there; one that was never
    measured is not compared. Raises ValueError where nothing can be compared.
    """
    bands = Bands.read(reference)
    found = numbers_of(run, sorted({int(epoch) for _, epoch in bands.numbers if epoch != WHOLE}))
    measured = {quantity for record in run.records for quantity in record} | {ZERO_EPOCH}
    values = {one: found.get(one, math.nan) for one in bands.numbers if one[0] in measured}
    if len(values) <= 1:
        raise ValueError(f"{run.name}: expected numbers of the reference, got none. Is it of another kind of run?")
    off = bands.deviations(numpy.array([values.get(one, math.nan) for one in bands.numbers]))
    deviations = dict(zip(bands.numbers, off.tolist(), strict=True))
    outside, differing = judge({one: deviations[one] for one in values}, bands.seeds)
    drawn = dict(zip(bands.numbers, map(tuple, bands.of_level(LEVEL).tolist()), strict=True))
    lacking = [quantity for quantity in reference["bands"] if quantity not in measured]
    return Verdict(values, drawn, outside, differing, lacking)


def _limit(seeds: int, level: float) -> float:
    """Student's t of a two-sided interval."""
    return float(stdtrit(min(seeds - 1, MOST_DEGREES), (1 + level) / 2))


def numbers_of(run: SavedRun, epochs: Sequence[int]) -> dict[Number, float]:
    """The numbers of a run that are compared: those that have a row in the catalogue, at these epochs."""
    numbers: dict[Number, float] = {}
    if run.zero_error_epoch is not None:
        numbers[ZERO_EPOCH, WHOLE] = float(run.zero_error_epoch)
    for record in run.records:
        if record["epoch"] in epochs:
            for name, value in record.items():
                if name.rpartition("/")[2] not in NOT_COMPARED and find(name) is not None:
                    numbers[name, f"{record['epoch']:.0f}"] = value
    return numbers


@dataclass(frozen=True, eq=False)
class Bands:
    """Where one more run is expected: of each number the seeds' mean, and the deviation of one more run from it.

    Arrays (M,), in the order of `numbers`: mean; logarithmic: whether the logarithm is what varies, and then mean is
    that of the logarithms; deviation: s √(1 + 1/n) on that scale. seeds: n.
    """

    numbers: Sequence[Number]
    seeds: int
    mean: numpy.ndarray
    deviation: numpy.ndarray
    logarithmic: numpy.ndarray

    @classmethod
    def of_seeds(cls, numbers: Sequence[Number], values: numpy.ndarray, facts: Mapping[str, Any]) -> Bands:
        """From the seeds' numbers, values (n, M): scale and least deviation by the catalogue's rows."""
        rows = [find(quantity) for quantity, _ in numbers]
        epochs = numpy.array([quantity == ZERO_EPOCH for quantity, _ in numbers], bool)
        logarithmic = numpy.array([row is not None and row.is_log for row in rows], bool) & (values > 0).all(axis=0)
        logarithmic |= epochs
        scaled = _scaled(values, logarithmic)
        mean = scaled.mean(axis=0)
        examples = numpy.array(
            [
                facts.get("num_test" if name.startswith("test/") else "num_train", 0)
                if row is not None and row.scale == "percent"
                else 0
                for (name, _), row in zip(numbers, rows, strict=True)
            ]
        )
        with numpy.errstate(over="ignore", divide="ignore", invalid="ignore"):
            least = numpy.where(logarithmic, RESOLVED, RESOLVED * numpy.abs(mean))
            least = numpy.where(epochs, numpy.maximum(least, HALF_AN_EPOCH / numpy.exp(mean)), least)
            counting = numpy.sqrt(numpy.clip(mean * (1 - mean), 0, None) / examples + 0.5 / examples**2)
        least = numpy.where(examples > 0, counting, least)
        deviation = numpy.maximum(scaled.std(axis=0, ddof=1), least) * math.sqrt(1 + 1 / len(values))
        return cls(numbers, len(values), mean, deviation, logarithmic)

    @classmethod
    def read(cls, reference: Mapping[str, Any]) -> Bands:
        """From a reference's file, which has low, mean and high of each number, of the level that it names.

        A band whose ends lie about the mean as a factor rather than as a difference is one of logarithms. Older
        references end shares at 0 and 1: then the side that does not counts.
        """
        bands = {
            (quantity, epoch): band
            for quantity, by_epoch in reference["bands"].items()
            for epoch, band in by_epoch.items()
        }
        low, mean, high = numpy.array([*bands.values()], float).T
        with numpy.errstate(divide="ignore", invalid="ignore", over="ignore"):
            factors = numpy.abs(numpy.log(low / mean) + numpy.log(high / mean))
            logarithmic = (low > 0) & (low < mean) & (mean < high) & (factors < numpy.abs((low + high) / 2 / mean - 1))
            half = numpy.where(logarithmic, numpy.log(mean / low), numpy.maximum(high - mean, mean - low))
        seeds = len(reference["seeds"])
        deviation = half / _limit(seeds, reference["level"])
        return cls([*bands], seeds, _scaled(mean, logarithmic), deviation, logarithmic)

    def deviations(self, one: numpy.ndarray) -> numpy.ndarray:
        """t (M,) of one more run with the numbers `one`; infinite where it has none."""
        scaled = _scaled(one, self.logarithmic)
        with numpy.errstate(divide="ignore", invalid="ignore"):
            off = numpy.where(scaled == self.mean, 0.0, numpy.abs(scaled - self.mean) / self.deviation)
        return numpy.nan_to_num(off, nan=numpy.inf, posinf=numpy.inf)

    def of_level(self, level: float) -> numpy.ndarray:
        """Low, mean and high (M, 3) of the prediction interval of one more run."""
        half = _limit(self.seeds, level) * self.deviation
        with numpy.errstate(over="ignore"):
            bands = numpy.stack([self.mean - half, self.mean, self.mean + half], axis=1)
            return numpy.where(self.logarithmic[:, None], numpy.exp(bands), bands)


def _scaled(values: numpy.ndarray, logarithmic: numpy.ndarray) -> numpy.ndarray:
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return numpy.where(logarithmic, numpy.log(values), values)


def _check(runs: Sequence[SavedRun]) -> None:
    if len({run.seed for run in runs}) < max(FEWEST_SEEDS, len(runs)):
        seeds = ", ".join(str(run.seed) for run in runs)
        raise ValueError(f"runs: expected at least {FEWEST_SEEDS} of different seeds, got {seeds}. Train more.")
    for run in runs:
        if run.state is not State.COMPLETED:
            raise ValueError(f"{run.name}: expected a completed run, got {run.state}. Let it end first.")
    for name in differing(runs):
        if name not in FREE:
            values = " and ".join(dict.fromkeys(text_of(run, name) for run in reversed(runs)))
            raise ValueError(
                f"runs: expected runs that differ in their seed alone, got {name} = {values}. "
                f"Name runs of one configuration."
            )


def _each(environments: Sequence[Mapping[str, Any]], key: str) -> str:
    """What the runs' environments say, each value once."""
    return re.sub(r"^$", "unknown", ", ".join(sorted({str(one[key]) for one in environments if key in one})))
