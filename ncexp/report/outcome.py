"""What several runs came to: a table of what they differ in, and in words which setting is best, and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from ncexp.record import SavedRun, State, format_counts
from ncexp.report.compare import differing
from ncexp.report.summary import ROBUSTNESS, small_perp_epoch
from ncexp.report.sweep import deviation, mean
from ncexp.report.verdict import NC1, PERP, nc1_factor, of_collapse, of_path, print_verdict

#: How many settings a table has, those with the lowest test error; and how many a sentence lists.
MOST_ROWS, MOST_NAMED = 40, 4


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone. values: axis → what was chosen."""

    values: dict[str, str]
    runs: list[SavedRun]

    @property
    def words(self) -> str:
        """``loss mse_mean, lr 0.06``; what the data are is said before."""
        chosen = [f"{axis} {value}" for axis, value in self.values.items() if not _of_data(axis)]
        return ", ".join(chosen) or "this setting"

    @property
    def data(self) -> str:
        """The dataset and its options, as far as they differ; test errors are compared on the same data alone."""
        chosen = [(axis, value) for axis, value in self.values.items() if _of_data(axis)]
        return ", ".join(value if axis == "dataset" else f"{axis} {value}" for axis, value in chosen)

    @property
    def completed(self) -> bool:
        """Whether every seed did."""
        return all(run.state is State.COMPLETED for run in self.runs)

    @property
    def errors(self) -> list[float]:
        """Test error in percent at the last evaluated epoch, of the runs that completed."""
        return self.last(lambda run: 100 * run.records[-1].get("test/error", math.nan))

    def last(self, of: Callable[[SavedRun], float]) -> list[float]:
        """A number of those that completed, where it is defined."""
        ended = [run for run in self.runs if run.state is State.COMPLETED and run.records]
        return [value for run in ended if not math.isnan(value := of(run))]


def print_outcome(console: Console, runs: Sequence[SavedRun]) -> None:
    """The table, and the verdict; nothing of runs of which none was evaluated."""
    if not any(run.records for run in runs):
        return
    found = settings(runs)
    console.print()
    console.print(outcome_table(found))
    if len(found) > MOST_ROWS:
        console.print(f"{MOST_ROWS} of {len(found)} settings, those with the lowest test error; `ncexp runs` lists all")
    print_verdict(console, outcome(runs))


def settings(runs: Sequence[SavedRun]) -> list[Setting]:
    """The runs by what they differ in besides the seed, in their order; simulations are left out."""
    trained = [run for run in runs if not run.is_simulation]
    chosen = axes(trained)
    found: dict[tuple[str, ...], list[SavedRun]] = {}
    for run in trained:
        found.setdefault(tuple(_text(run.choices.get(axis)) for axis in chosen), []).append(run)
    return [Setting(dict(zip(chosen, values, strict=True)), members) for values, members in found.items()]


def axes(runs: Sequence[SavedRun]) -> list[str]:
    """The choices in which runs differ, without the seed and without what others decide (options of a choice)."""
    kept: list[str] = []
    groups = 1
    for name in (name for name in differing(runs) if name != "seed"):
        more = len({tuple(str(run.choices.get(axis)) for axis in (*kept, name)) for run in runs})
        if more > groups:
            kept.append(name)
            groups = more
    return kept


def outcome_table(found: Sequence[Setting]) -> Table:
    """A row a setting: its axes, test error and NC1 (and robustness, if measured) at the end: mean ± deviation over the
    seeds that completed, how many these are, and how the others stand.
    """
    names = [NC1, *([ROBUSTNESS] if any(one.last(_at_the_end(ROBUSTNESS)) for one in found) else [])]
    table = Table(*found[0].values, box=None, pad_edge=False)
    for head in ("seeds", "test error %", "NC1", "robustness")[: 2 + len(names)]:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("")
    if len(found) > MOST_ROWS:
        found = sorted(found, key=lambda one: mean(one.errors) if one.errors else math.inf)[:MOST_ROWS]
    for one in found:
        others = [run.state for run in one.runs if run.state is not State.COMPLETED]
        numbers = [_with_spread(one.last(_at_the_end(name)), ".3g", len(one.errors)) for name in names]
        row = [*one.values.values(), str(len(one.errors)), _with_spread(one.errors, ".2f"), *numbers]
        table.add_row(*row, format_counts(others) if others else "")
    return table


def _at_the_end(name: str) -> Callable[[SavedRun], float]:
    return lambda run: run.records[-1].get(name, math.nan)


def outcome(runs: Sequence[SavedRun]) -> list[str]:
    """The verdict on several runs, a sentence a line: of all data the best setting, how it collapsed, how near the
    central path it is; and what did not complete.
    """
    found = settings(runs)
    lines = []
    for data in dict.fromkeys(one.data for one in found):
        members = [one for one in found if one.data == data]
        complete = [one for one in members if len(one.errors) == len(one.runs)]
        complete.sort(key=lambda one: mean(one.errors))
        if complete:
            said = [_best(complete), *_collapse(complete[0]), *_path(complete[0])]
            lines += [f"{data}: {line}" if data else line for line in said]
    trained = [run for one in found for run in one.runs]
    if others := [run for run in trained if run.state is not State.COMPLETED]:
        where = dict.fromkeys(", ".join(filter(None, (one.data, one.words))) for one in found if not one.completed)
        named = [*where][:MOST_NAMED] + ([f"{len(where) - MOST_NAMED} more"] if len(where) > MOST_NAMED else [])
        states = format_counts(run.state for run in others)
        lines.append(f"{len(others)} of {len(trained)} runs did not complete: {states} ({'; '.join(named)})")
    return lines


def _best(complete: Sequence[Setting]) -> str:
    """Which setting has the lowest mean test error, and whether that is more than chance.

    A setting is called the best only where the next one is worse by more than the seeds' spread: the larger of the two
    standard deviations (n − 1) over their seeds. Of one seed there is none, and nothing is said of chance.
    """
    first, *others = complete
    error = f"test error {_with_spread(first.errors, '.2f')} % ({_seeds(first.runs)})"
    if not others:
        return f"{first.words}: {error}"
    second = others[0]
    gap = mean(second.errors) - mean(first.errors)
    apart = f"{gap:.2f} points below the next, {second.words}" if gap else f"the same as that of {second.words}"
    spreads = [deviation(one.errors) for one in (first, second)]
    if any(map(math.isnan, spreads)):
        chance = "Of one seed nothing can be said about chance: repeat with seed=0,1,2"
        examples = _in_examples(gap, first, second) if gap else ""
        return f"lowest: {first.words}, {error}, {apart}{examples}. {chance}"
    spread = f"{max(spreads):.2f} points, the seeds' spread"
    if gap > max(spreads):
        return f"best: {first.words}, {error}, {apart}: more than {spread}"
    return f"no setting is the best: {first.words} has {error}, {apart}: no more than {spread}"


def _in_examples(gap: float, first: Setting, second: Setting) -> str:
    """How many test examples a difference in percent is, where it is one of two runs."""
    total = first.runs[0].facts.get("num_test")
    if not isinstance(total, int) or len(first.runs + second.runs) > 2:  # a stranger's facts may hold anything
        return ""
    return f" ({gap / 100 * total:.0f} of {total} test examples)"


def _collapse(best: Setting) -> list[str]:
    """By which factors NC1 fell after zero error, over the seeds of which it is known; or that none reached it."""
    if all(run.zero_error_epoch is None for run in best.runs):
        return ["there, zero error was not reached, after which features would collapse"]
    if len(best.runs) == 1:
        return [f"there, {line}" for line in of_collapse(best.runs[0])]
    factors = best.last(nc1_factor)
    fell = [factor for factor in factors if factor > 1]
    by = f", by a factor of {min(fell):.3g} to {max(fell):.3g}" if fell else ""
    return [f"there, NC1 fell after zero error in {len(fell)} of {_seeds(factors)}{by}"] if factors else []


def _path(best: Setting) -> list[str]:
    """How many seeds are near the central path, judged as in `of_path`; those in doubt are left out."""
    if len(best.runs) == 1:
        return [f"there, {line}" for line in of_path(best.runs[0])]
    known = best.last(lambda run: run.records[-1].get(PERP, math.nan) if not run.doubts else math.nan)
    near = best.last(lambda run: small_perp_epoch(run) if not run.doubts else math.nan)
    since = f", from epoch {min(near):.0f} to {max(near):.0f} on" if near else ""
    said = f"{len(near)} of {_seeds(known)} near the central path (L_LS⊥ stays below a tenth of L_NC1){since}"
    return [f"there, {said}"] if known else []


def _seeds(values: Sequence[object]) -> str:
    return f"{len(values)} seed{'s' * (len(values) != 1)}"


def _with_spread(values: Sequence[float], places: str, seeds: int | None = None) -> str:
    """``2.02 ± 0.10``: mean and standard deviation (n − 1), if there are several; their number, if not `seeds`."""
    if not values:
        return "–"
    spread = deviation(values)
    counted = "" if seeds in (None, len(values)) else f" ({len(values)})"
    return f"{mean(values):{places}}" + ("" if math.isnan(spread) else f" ± {spread:{places}}") + counted


def _of_data(axis: str) -> bool:
    return axis.partition(".")[0] == "dataset"


def _text(value: object) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
