"""Single numbers that a run came to, and what several seeds make of one: mean and spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from ncexp.record import Record, SavedRun, column
from ncexp.record.quantities import NC1 as NC1_PANEL
from ncexp.record.quantities import panels
from ncexp.record.quantities_of_targets import NRC1 as NRC1_PANEL

#: Full names of what tables and sentences speak of. NC1 is the number that stands first in the panel of this name,
#: NRC1 the second, of centred features.
NC1 = f"train/{panels()[NC1_PANEL][0].name}"
NRC1 = f"train/{panels()[NRC1_PANEL][1].name}"
ERROR, ROBUSTNESS, PERP = "test/error", "test/robustness/ratio", "train/mse/loss_ls_perp"
#: The terms of HPD22 Figure 2 on train features, by their last part.
TERMS = {"L_NC1": "loss_nc1", "L_NC1, data part": "loss_nc1_data", "L_NC2/3": "loss_nc23", "L_LS⊥": "loss_ls_perp"}
#: HPD22 Figure 2, read as a number: L_LS⊥ is small beside L_NC1.
SMALL = 0.1
Spread = Literal["std", "se"]


@dataclass(frozen=True)
class Value:
    """Mean over seeds and its spread, nan for a single one; of no seed the mean is nan, too.

    kind of the spread: std, the standard deviation (n − 1), or se, the standard error of the mean, std/√n. seeds: how
    many have the number, of how many: told where not all have it.
    """

    mean: float
    spread: float
    places: str = ".3g"
    kind: Spread = "std"
    seeds: int = 0
    of_seeds: int = 0

    @classmethod
    def of(cls, values: Sequence[float], places: str = ".3g", kind: Spread = "std") -> Value:
        """Of the values that are defined."""
        defined = [value for value in values if not math.isnan(value)]
        spread = deviation(defined) / (math.sqrt(len(defined)) if kind == "se" and defined else 1)
        return cls(mean(defined) if defined else math.nan, spread, places, kind, len(defined), len(values))

    @property
    def counted(self) -> str:
        """``2 of 3``, the seeds that have the number; empty where all have it."""
        return f"{self.seeds} of {self.of_seeds}" if self.seeds < self.of_seeds else ""

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:{self.places}}"
        return f"{self.mean:{self.places}}{spread}" + (f" ({self.counted})" if self.counted else "")


def mean(values: Sequence[float]) -> float:
    """The mean, also of values whose sum float64 does not hold, and of infinite ones; of equal values their value."""
    with numpy.errstate(all="ignore"):
        return float(numpy.mean(numpy.asarray(values, numpy.longdouble)))


def deviation(values: Sequence[float]) -> float:
    """The standard deviation (n − 1); nan of fewer than two values, and where one is infinite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return float(numpy.std(numpy.asarray(values, numpy.longdouble), ddof=1))


def rank_correlation(
    groups: Sequence[Sequence[tuple[float, float]]], resamples: int = 2000
) -> tuple[float, float, float, int]:
    """Spearman's ρ of pairs, the bounds of its 95 % interval by bootstrap, and of how many pairs it is.

    Pairs of one group, as runs of one setting, are no independent draws: groups are drawn with replacement, each with
    all its pairs, and of the ρ of such draws the 2.5 % and 97.5 % quantiles are the bounds (percentile bootstrap over
    clusters; where there is one group, pairs are drawn). Pairs with an undefined number are left out. nan where fewer
    than three pairs are left or all values are the same, and for bounds of fewer than four groups. The draws are the
    same each time.
    """
    defined = [[pair for pair in group if all(map(math.isfinite, pair))] for group in groups]
    filled = [numpy.array(group) for group in defined if group]
    filled = [pair[None] for pair in filled[0]] if len(filled) == 1 else filled
    pairs = numpy.concatenate(filled) if filled else numpy.empty((0, 2))
    rho = _spearman(pairs)
    if math.isnan(rho) or len(filled) < 4:
        return rho, math.nan, math.nan, len(pairs)
    random = numpy.random.default_rng(0)
    draws = random.integers(len(filled), size=(resamples, len(filled)))
    found = [_spearman(numpy.concatenate([filled[place] for place in draw])) for draw in draws]
    low, high = numpy.nanquantile(found, [0.025, 0.975])
    return rho, float(low), float(high), len(pairs)


def _spearman(pairs: numpy.ndarray) -> float:
    """Pearson's correlation of ranks, equal values sharing their mean rank."""
    if len(pairs) < 3 or any(len({*values}) == 1 for values in pairs.T.tolist()):
        return math.nan
    from scipy.stats import rankdata  # a second to import, and no run needs it

    return float(numpy.corrcoef(rankdata(pairs, axis=0), rowvar=False)[0, 1])


def record_at(run: SavedRun, epoch: int | None) -> Record:
    """The record of an epoch; empty where there is no such epoch, or it was not evaluated."""
    epochs = column(run.records, "epoch")  # to make each record takes longer than to look for one
    return run.records[epochs.index(epoch)] if epoch in epochs else {}


def before_the_end(run: SavedRun) -> Record:
    """The record of the zero-error epoch; empty where it was not reached, or is the last."""
    zero = run.zero_error_epoch
    return {} if zero == run.records[-1]["epoch"] else record_at(run, zero)


def at_the_end(name: str) -> Callable[[SavedRun], float]:
    """A number of a run's last evaluated epoch; nan where it was not measured."""
    return lambda run: run.records[-1].get(name, math.nan) if run.records else math.nan


def robustness_gain(run: SavedRun) -> float:
    """Robustness at the last epoch less that at the zero-error epoch; nan where it was not measured at both."""
    return at_the_end(ROBUSTNESS)(run) - record_at(run, run.zero_error_epoch).get(ROBUSTNESS, math.nan)


def gain(run: SavedRun) -> float:
    """Test accuracy at the last epoch less that at the zero-error epoch, in points; nan where there was none."""
    return _accuracy(run.records[-1]) - _accuracy(record_at(run, run.zero_error_epoch))


def _accuracy(record: Record) -> float:
    return 100 * (1 - record.get(ERROR, math.nan))


#: Column of tables → what it holds of a run, and how it is printed.
ACCURACIES: Mapping[str, tuple[Callable[[SavedRun], float], str]] = {
    "test acc. at zero error %": (lambda run: _accuracy(record_at(run, run.zero_error_epoch)), ".2f"),
    "test acc. at the end %": (lambda run: _accuracy(run.records[-1]), ".2f"),
    "gain": (gain, ".2f"),
    "zero-error epoch": (lambda run: math.nan if run.zero_error_epoch is None else run.zero_error_epoch, ".0f"),
}


def nc1_factor(run: SavedRun) -> float:
    """NC1 on train features at zero error over that at the last evaluated epoch: above 1 it fell.

    nan where one of them is undefined or was not measured, and where nothing comes after zero error.
    """
    before, now = before_the_end(run).get(NC1, math.nan), at_the_end(NC1)(run)
    return before / now if now else math.inf if before > 0 else math.nan


def path_term(run: SavedRun) -> tuple[str, str]:
    """What L_LS⊥ is to be small beside, and the last part of its name: L_NC1; of a regression L_LS."""
    return ("L_LS", "loss_ls") if run.is_regression else ("L_NC1", "loss_nc1")


def small_perp_epoch(run: SavedRun, beside: str = "") -> float:
    """The first evaluated epoch from which L_LS⊥ stays below a tenth of `path_term`, or of another term; on train.

    nan where it is not below at the last epoch, or was not measured.
    """
    first, beside = math.nan, beside or path_term(run)[1]
    for record in reversed([one for one in run.records if PERP in one]):
        if not record[PERP] < SMALL * record.get(f"train/mse/{beside}", math.nan):
            break
        first = record["epoch"]
    return first


def rate_of_fall(run: SavedRun, term: str) -> float:
    """p of term ∝ epoch^p from the zero-error epoch to the last: least squares of log term against log epoch.

    term: the last part of its name; over the evaluated epochs at which it is positive. nan where there are not two, or
    zero error was not reached.
    """
    points = [
        (math.log(record["epoch"]), math.log(value))
        for record in run.records
        if record["epoch"] >= (run.zero_error_epoch or math.inf) and (value := record.get(f"train/mse/{term}", 0)) > 0
    ]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else math.nan


def describe_doubts(run: SavedRun) -> list[str]:
    """A line for each split whose decomposition is not to be relied on: at how many epochs, and why at the last."""
    lines = []
    for split in sorted({split for _, split in run.doubts}):
        epochs = [epoch for epoch, one in run.doubts if one == split]
        why = run.doubts[epochs[-1], split]
        lines.append(f"in doubt: {split}/mse and {split}/path at {len(epochs)} epochs; at {epochs[-1]} {why}")
    return lines
