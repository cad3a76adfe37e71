"""The answer in words with which a run, a sweep, a report and a measuring end, and the table of what several came to.

Every number in it is the record's own. How is judged stands in the docstring of each function; of what was not measured
nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console

from ncexp.record import SavedRun, State, format_counts
from ncexp.report.columns import brief
from ncexp.report.numbers import (
    ERROR,
    NC1,
    NRC1,
    PERP,
    ROBUSTNESS,
    Value,
    at_the_end,
    before_the_end,
    deviation,
    mean,
    nc1_factor,
    path_term,
    small_perp_epoch,
)
from ncexp.report.study import Best, Setting, Study
from ncexp.report.tables import Entry, Table

#: How many settings a table has, those with the lowest test error; and how many a sentence lists.
MOST_ROWS, MOST_NAMED = 40, 4
#: Before what is said of the best setting.
THERE = "there, "


def print_verdict(console: Console, lines: Iterable[str]) -> None:
    """The sentences under the word, as the other lines of a run are printed."""
    for place, line in enumerate(lines):
        console.print(f"{'' if place else 'verdict':9} {line}", soft_wrap=True, markup=False)


def verdict(run: SavedRun) -> list[str]:
    """What one run came to, a sentence a line; of a diverged one what to try."""
    if run.state is State.DIVERGED:
        return [what_to_try(run)]
    if run.is_simulation or ERROR not in (run.records or [{}])[-1]:
        return []
    return [*_of_errors(run), *_of_collapse(run), *_of_path(run), *_of_robustness(run)]


def what_to_try(run: SavedRun) -> str:
    """A tenth of the rate; what the run's configuration has against large steps and did not use; Adam; more digits."""
    if run.is_foreign or math.isnan(run.rate):
        return "the weights give features that are no finite numbers: measure files of before it diverged"
    choices = [f"optimizer.lr={run.rate / 10:g} (a tenth)"]
    choices += [f"{name}=..." for name, value in run.choices.items() if "clip" in name or "warm" in name if not value]
    if not str(run.choices["optimizer"]).startswith("adam"):
        choices.append("optimizer=adam at its own rate")
    if run.choices.get("precision", "fp32") != "fp32":
        choices.append("precision=fp32")
    return f"the same training would diverge again; try {', '.join(choices)}"


def _of_errors(run: SavedRun) -> list[str]:
    """Test error at the last evaluated epoch beside that of the zero-error epoch."""
    last, zero = run.records[-1], run.zero_error_epoch
    state = "" if run.state is State.COMPLETED else f"so far ({run.state}): "
    if run.is_regression:
        rest = last.get("train/error", math.nan)
        return [
            f"{state}of the targets' variance {last[ERROR]:.2%} on test and {rest:.2%} on train are not explained at "
            f"epoch {last['epoch']:.0f}"
        ]
    now = f"{state}test error {last[ERROR]:.2%} at epoch {last['epoch']:.0f}"
    if zero is None:
        reached = "is not reached yet" if state else "was not reached"
        wrong = f"{last.get('train/error', math.nan):.2%} of the training examples are still decided wrongly"
        return [f"{now}; zero error {reached}: {wrong}"]
    if zero == last["epoch"]:
        return [f"{now}, the zero-error epoch: there is nothing after it in which features could collapse further"]
    before = before_the_end(run).get(ERROR, math.nan)
    if math.isnan(before):
        return [f"{now}; zero error at epoch {zero}"]
    points = 100 * (before - last[ERROR])
    change = f"{abs(points):.2f} points {'less' if points > 0 else 'more'} now" if points else "the same"
    return [f"{now}; {before:.2%} at zero error, epoch {zero}: {change}"]


def _of_collapse(run: SavedRun) -> list[str]:
    """Whether NC1 fell after zero error, and by which factor; a change that three digits do not show is none."""
    factor = nc1_factor(run)
    if math.isnan(factor):
        return []
    values = f"{before_the_end(run)[NC1]:.3g} at zero error, {run.records[-1][NC1]:.3g} now"
    if f"{factor:.3g}" == "1":
        return [f"NC1 did not change after zero error: {values}"]
    if factor < 1:
        return [f"NC1 rose after zero error by a factor of {1 / factor if factor else math.inf:.3g}: {values}"]
    return [f"NC1 fell after zero error by a factor of {factor:.3g}: {values}"]


def _of_path(run: SavedRun) -> list[str]:
    """Near the central path: L_LS⊥ stays below a tenth of L_NC1 to the end (HPD22 Figure 2), on train features."""
    last = run.records[-1]
    if math.isnan(last.get(PERP, math.nan)):
        return []
    if why := run.doubts.get((int(last["epoch"]), "train")):
        return [f"how near it is to the central path cannot be said: {why}"]
    term, beside = path_term(run)
    share = last.get("train/path/perp_share", math.nan)
    rest = "" if math.isnan(share) else f"; {share:.2%} of the MSE loss is off the path at the end"
    if "mse" not in run.cell[2] and not run.cell[2].startswith("squared_error"):
        rest += f" (the path is one of the MSE loss, this run's is {run.cell[2]})"
    near = small_perp_epoch(run)
    if math.isnan(near):
        terms = f"L_LS⊥ is {last[PERP]:.3g}, {term} {last.get(f'train/mse/{beside}', math.nan):.3g}"
        return [f"not near the central path: {terms}; near is below a tenth of it{rest}"]
    return [f"near the central path from epoch {near:.0f} on: L_LS⊥ stays below a tenth of {term}{rest}"]


def _of_robustness(run: SavedRun) -> list[str]:
    now, before = at_the_end(ROBUSTNESS)(run), before_the_end(run).get(ROBUSTNESS, math.nan)
    if math.isnan(now):
        return []
    earlier = "" if math.isnan(before) else f", {before:.3g} at zero error"
    return [f"robustness {now:.3g}{earlier}: the least change that decides otherwise, as a share of the input's length"]


def print_outcome(console: Console, study: Study) -> None:
    """The table of what several runs came to, and the verdict; nothing of runs of which none was evaluated."""
    if not any(run.records for run in study.runs):
        return
    console.print()
    console.print(outcome_table(study).terminal(len(study.by)))
    if len(study.settings) > MOST_ROWS:
        named = f"{MOST_ROWS} of {len(study.settings)} settings, those with the lowest test error"
        console.print(f"{named}; `ncexp runs` lists all")
    print_verdict(console, outcome(study))


def outcome_table(study: Study) -> Table:
    """A row a setting: its axes, test error and NC1, of regressions NRC1 (and robustness, if measured) at the end: mean
    ± deviation over the seeds that completed, how many these are, and how the others stand.
    """
    regressions = all(run.is_regression for run in study.runs)
    names = [NRC1 if regressions else NC1, *([ROBUSTNESS] if _last(study.runs, at_the_end(ROBUSTNESS)) else [])]
    found = study.settings
    columns = [
        *(one.name for one in study.by),
        *("seeds", "test error %", "NRC1, centred" if regressions else "NC1", "robustness")[: 2 + len(names)],
        "",
    ]
    if len(found) > MOST_ROWS:
        found = sorted(found, key=lambda one: mean(_errors(one)) if _errors(one) else math.inf)[:MOST_ROWS]
    rows: list[list[Entry]] = []
    for one in found:
        done = [run for run in one.runs if run.state is State.COMPLETED and run.records]
        numbers = [Value.of([at_the_end(name)(run) for run in done]) for name in names]
        others = [run.state for run in one.runs if run.state is not State.COMPLETED]
        row: list[Entry] = [
            *map(brief, one.values.values()),
            str(len(done)),
            Value.of(_errors(one), ".2f"),
            *numbers,
        ]
        rows.append([*row, format_counts(others) if others else ""])
    return Table.of("outcome", "", columns, rows)


def outcome(study: Study) -> list[str]:
    """The verdict on several runs, a sentence a line: of all data the best setting, how it collapsed, how near the
    central path it is; and what did not complete.
    """
    lines = []
    for data in dict.fromkeys(map(_data, study.settings)):
        complete = [one for one in study.ranked if _data(one) == data and one.completed]
        said = []
        if complete and study.best:
            kept = complete[0].kept
            said = [_best(complete, study.best), *_collapse(kept, THERE), *_path(kept, THERE)]
        elif complete:
            kept = [run for one in complete for run in one.kept]
            said = [*_collapse(kept, ""), *_path(kept, "")]
        lines += [f"{data}: {line}" if data else line for line in said]
    states = [(run.state, one) for one in study.settings for run in one.runs]
    if others := [(state, one) for state, one in states if state is not State.COMPLETED]:
        where = [*dict.fromkeys(", ".join(filter(None, (_data(one), _words(one)))) for _, one in others)]
        named = where[:MOST_NAMED] + ([f"{len(where) - MOST_NAMED} more"] if len(where) > MOST_NAMED else [])
        counts = format_counts(state for state, _ in others)
        lines.append(f"{len(others)} of {len(states)} runs did not complete: {counts} ({'; '.join(named)})")
    return lines


def _best(complete: Sequence[Setting], best: Best) -> str:
    """Which setting has the best mean, and whether that is more than chance.

    A setting is called the best only where the next one is worse by more than the seeds' spread: the larger of the two
    standard deviations (n − 1) over their seeds. Of one seed there is none, and nothing is said of chance.
    """
    first, *others = complete
    column = best.column
    share = column.row is not None and column.row.is_share
    name = "test error" if column.name == ERROR else column.label.removesuffix(" %")
    places, unit, points = (".2f", " %", " points") if share else (".3g", "", "")
    values = [[value for run in one.kept if not math.isnan(value := column.of(run))] for one in complete[:2]]
    words, number = _words(first), f"{name} {Value.of(values[0], places)}{unit} ({_counted(values[0], THERE)})"
    if not others:
        return f"{words}: {number}"
    second, sign = others[0], 1 if best.direction == "min" else -1
    gap = sign * (mean(values[1]) - mean(values[0])) if all(values) else math.nan
    side = "below" if sign > 0 else "above"
    apart = (
        f"{gap:{places}}{points} {side} the next, {_words(second)}" if gap else f"the same as that of {_words(second)}"
    )
    spreads = [deviation(one) for one in values]
    if any(map(math.isnan, spreads)):
        chance = "Of one seed nothing can be said about chance: repeat with seed=0,1,2"
        total = first.kept[0].facts.get("num_test")  # a stranger's facts may hold anything
        known = column.name == ERROR and isinstance(total, int) and gap and len(first.kept + second.kept) == 2
        examples = f" ({gap / 100 * float(total or 0):.0f} of {total} test examples)" if known else ""
        return f"{'lowest' if sign > 0 else 'highest'}: {words}, {number}, {apart}{examples}. {chance}"
    spread = f"{max(spreads):{places}}{points}, the seeds' spread"
    if gap > max(spreads):
        return f"best: {words}, {number}, {apart}: more than {spread}"
    return f"no setting is the best: {words} has {number}, {apart}: no more than {spread}"


def _collapse(runs: Sequence[SavedRun], where: str) -> list[str]:
    """By which factors NC1 fell after zero error, over the runs of which it is known; or that none reached it."""
    if all(run.is_regression for run in runs):
        return []
    if all(run.zero_error_epoch is None for run in runs):
        return [f"{where}zero error was not reached, after which features would collapse"]
    if len(runs) == 1:
        return [f"{where}{line}" for line in _of_collapse(runs[0])]
    factors = _last(runs, nc1_factor)
    fell = [factor for factor in factors if factor > 1]
    by = f", by a factor of {min(fell):.3g} to {max(fell):.3g}" if fell else ""
    return [f"{where}NC1 fell after zero error in {len(fell)} of {_counted(factors, where)}{by}"] if factors else []


def _path(runs: Sequence[SavedRun], where: str) -> list[str]:
    """How many runs are near the central path, judged as in `_of_path`; those in doubt are left out."""
    if len(runs) == 1:
        return [f"{where}{line}" for line in _of_path(runs[0])]
    sure = [run for run in runs if not run.doubts]
    known, near = _last(sure, at_the_end(PERP)), _last(sure, small_perp_epoch)
    ends = [*dict.fromkeys(f"{epoch:.0f}" for epoch in (min(near), max(near)))] if near else []
    since = f", from epoch {' to '.join(ends)} on" if near else ""
    terms = " or ".join(dict.fromkeys(path_term(run)[0] for run in sure))
    near_path = f"near the central path (L_LS⊥ stays below a tenth of {terms}){since}"
    return [f"{where}{len(near)} of {_counted(known, where)} {near_path}"] if known else []


def _last(runs: Iterable[SavedRun], of: Callable[[SavedRun], float]) -> list[float]:
    """A number of the runs that completed, where it is defined."""
    done = [run for run in runs if run.state is State.COMPLETED and run.records]
    return [value for run in done if not math.isnan(value := of(run))]


def _errors(setting: Setting) -> list[float]:
    """Test error in percent at the last evaluated epoch, of the runs that completed."""
    return [100 * error for error in _last(setting.runs, at_the_end(ERROR))]


def _words(setting: Setting) -> str:
    """``loss mse_mean, lr 0.06``; what the data are is said before."""
    values = {**setting.values, **setting.chosen}
    chosen = [f"{axis} {brief(value)}" for axis, value in values.items() if axis.partition(".")[0] != "dataset"]
    return ", ".join(chosen) or "this setting"


def _data(setting: Setting) -> str:
    """The dataset and its options, as far as they differ; test errors are compared on the same data alone."""
    chosen = [(axis, value) for axis, value in setting.values.items() if axis.partition(".")[0] == "dataset"]
    return ", ".join(value if axis == "dataset" else f"{axis} {value}" for axis, value in chosen)


def _counted(values: Sequence[object], where: str) -> str:
    """``3 seeds``, of one setting; of several, ``12 runs``."""
    noun = "seed" if where else "run"
    return f"{len(values)} {noun}{'s' * (len(values) != 1)}"
