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
    scales = Scales.of(shared, values, runs[0].facts)
    low, mean, high = scales.interval(values)
    bands: dict[str, dict[str, list[float]]] = {}
    for place, (quantity, epoch) in enumerate(shared):
        bands.setdefault(quantity, {})[epoch] = [float(f"{one[place]:.6g}") for one in (low, mean, high)]
    left_out = [judge(dict(zip(shared, one, strict=True)), len(runs) - 1) for one in scales.leave_one_out(values)]
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
        "bands": bands,
    }


def configuration_of(run: SavedRun) -> dict[str, Any]:
    """The choices that runs of one reference share: all but the seed, the folder that the data lie in, and options
    without a value, which earlier versions may not have had.
    """
    chosen = {name: value for name, value in run.choices.items() if value is not None}
    return {name: value for name, value in chosen.items() if name not in ("seed", "dataset.root")}


def compare_with_reference(run: SavedRun, reference: Mapping[str, Any]) -> Verdict:
    """Which of the reference's numbers the run has, and which of these lie outside their intervals.

    A quantity that the run has, but not at an epoch of the reference, counts as outside there; one that was never
    measured is not compared. Raises ValueError where nothing can be compared.
    """
    seeds = len(reference["seeds"])
    written = _limit(seeds, reference["level"])
    bands = {
        (quantity, epoch): _Band(band[0], band[1], band[2])
        for quantity, by_epoch in reference["bands"].items()
        for epoch, band in by_epoch.items()
    }
    epochs = sorted({int(epoch) for _, epoch in bands if epoch != WHOLE})
    found = numbers_of(run, epochs)
    measured = {quantity for record in run.records for quantity in record} | {ZERO_EPOCH}
    lacking = [quantity for quantity in reference["bands"] if quantity not in measured]
    values = {one: found.get(one, math.nan) for one in bands if one[0] in measured}
    if len(values) <= 1:
        raise ValueError(f"{run.name}: expected numbers of the reference, got none. Is it of another kind of run?")
    outside, differing = judge({one: written * bands[one].deviation(value) for one, value in values.items()}, seeds)
    drawn = {one: band.of_width(_limit(seeds, LEVEL) / written) for one, band in bands.items()}
    return Verdict(values, drawn, outside, differing, lacking)


@dataclass(frozen=True)
class _Band:
    """Low, mean and high of one number, as written; geometric where its logarithm is what varies."""

    low: float
    mean: float
    high: float

    @property
    def _geometric(self) -> bool:
        if not 0 < self.low < self.mean < self.high:
            return False
        arithmetic = abs((self.low + self.high) / 2 / self.mean - 1)
        return abs(math.log(self.low / self.mean) + math.log(self.high / self.mean)) < arithmetic

    @property
    def _half(self) -> float:
        """Half the width. Older references end shares at 0 and 1: the side that does not."""
        if self._geometric:
            return math.log(self.mean / self.low)
        return max(self.high - self.mean, self.mean - self.low)

    def deviation(self, value: float) -> float:
        """How far off, in half the band's width; infinite where there is no number."""
        if value == self.mean:
            return 0.0
        if not math.isfinite(value) or self._half == 0 or (self._geometric and value <= 0):
            return math.inf
        return abs(math.log(value / self.mean) if self._geometric else value - self.mean) / self._half

    def of_width(self, factor: float) -> tuple[float, float, float]:
        """Low, mean and high of a band so many times as wide."""
        if self._geometric:
            return self.mean * math.exp(-factor * self._half), self.mean, self.mean * math.exp(factor * self._half)
        return self.mean - factor * self._half, self.mean, self.mean + factor * self._half


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
class Scales:
    """How numbers (M,) vary: logarithmic, and the least deviation: of a share of `counted` examples, or `least`."""

    logarithmic: numpy.ndarray
    counted: numpy.ndarray
    least: numpy.ndarray

    @classmethod
    def of(cls, numbers: Sequence[Number], values: numpy.ndarray, facts: Mapping[str, Any]) -> Scales:
        """By the catalogue's rows; values (seeds, M)."""
        rows = [find(quantity) for quantity, _ in numbers]
        log = numpy.array([row is not None and row.is_log for row in rows]) & (values > 0).all(axis=0)
        log |= numpy.array([quantity == ZERO_EPOCH for quantity, _ in numbers])
        shares = [row is not None and row.scale == "percent" for row in rows]
        sizes = {
            name: facts.get(f"num_{of}", 0) for name, of in (("train", "train"), ("fit", "train"), ("test", "test"))
        }
        counted = [
            sizes[name.partition("/")[0]] if share else 0 for (name, _), share in zip(numbers, shares, strict=True)
        ]
        least = [HALF_AN_EPOCH if quantity == ZERO_EPOCH else 0.0 for quantity, _ in numbers]
        return cls(log, numpy.array(counted), numpy.array(least))

    def interval(self, values: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """values (seeds, M) → low, mean, high (M,) of the prediction interval of one more seed; geometric where log."""
        mean, deviation = self._moments(values)
        half = _limit(len(values), LEVEL) * deviation
        with numpy.errstate(over="ignore"):
            low, middle, high = (
                numpy.where(self.logarithmic, numpy.exp(one), one) for one in (mean - half, mean, mean + half)
            )
        return low, middle, high

    def deviations(self, values: numpy.ndarray, one: numpy.ndarray) -> numpy.ndarray:
        """t (M,) of one more run `one` (M,) beside the seeds `values`; infinite where it has no number."""
        mean, deviation = self._moments(values)
        return numpy.nan_to_num(numpy.abs(self._scaled(one) - mean) / deviation, nan=numpy.inf)

    def leave_one_out(self, values: numpy.ndarray) -> list[list[float]]:
        """t of the numbers of each seed beside the other seeds."""
        return [self.deviations(numpy.delete(values, place, axis=0), one).tolist() for place, one in enumerate(values)]

    def _scaled(self, values: numpy.ndarray) -> numpy.ndarray:
        with numpy.errstate(divide="ignore", invalid="ignore"):
            return numpy.where(self.logarithmic, numpy.log(values), values)

    def _moments(self, values: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Mean (M,) and deviation (M,) of one more seed from it, on each number's scale."""
        scaled = self._scaled(values)
        mean = scaled.mean(axis=0)
        deviation = numpy.maximum(scaled.std(axis=0, ddof=1), self._least_deviation(mean))
        return mean, deviation * math.sqrt(1 + 1 / len(values))

    def _least_deviation(self, mean: numpy.ndarray) -> numpy.ndarray:
        examples = numpy.maximum(self.counted, 1)
        with numpy.errstate(over="ignore"):
            least = numpy.where(self.logarithmic, self.least / numpy.exp(mean), self.least)
        counting = numpy.sqrt(numpy.clip(mean * (1 - mean), 0, None) / examples + 0.5 / examples**2)
        relative = numpy.where(self.logarithmic, RESOLVED, RESOLVED * numpy.abs(mean))
        return numpy.where(self.counted > 0, counting, numpy.maximum(relative, least))


def _check(runs: Sequence[SavedRun]) -> None:
    if len({run.seed for run in runs}) < max(FEWEST_SEEDS, len(runs)):
        seeds = ", ".join(str(run.seed) for run in runs)
        raise ValueError(f"runs: expected at least {FEWEST_SEEDS} of different seeds, got {seeds}. Train more.")
    for run in runs:
        if run.state is not State.COMPLETED:
            raise ValueError(f"{run.name}: expected a completed run, got {run.state}. Let it end first.")
        chosen, first = configuration_of(run), configuration_of(runs[0])
        for name in chosen.keys() | first.keys():
            if str(chosen.get(name)) != str(first.get(name)):
                raise ValueError(
                    f"{run.name}: expected runs that differ in their seed alone, got {name} = {chosen.get(name)} "
                    f"and {first.get(name)}. Name runs of one configuration."
                )


def _each(environments: Sequence[Mapping[str, Any]], key: str) -> str:
    """What the runs' environments say, each value once."""
    return re.sub(r"^$", "unknown", ", ".join(sorted({str(one[key]) for one in environments if key in one})))
