"""The answer in words with which a run, a sweep, a report and a measuring end.

Every number in it is the record's own. How is judged stands in the docstring of each function; of what was not measured
nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Console

from ncexp.record import Record, SavedRun, State, quantities
from ncexp.report.summary import ROBUSTNESS, record_at, small_perp_epoch

NC1, PERP = quantities.leading(quantities.NC1).on(), "train/mse/loss_ls_perp"


def verdict(run: SavedRun) -> list[str]:
    """What one run came to, a sentence a line; of a diverged one what to try."""
    if run.state is State.DIVERGED:
        return [what_to_try(run)]
    if run.is_simulation or "test/error" not in (run.records or [{}])[-1]:
        return []
    return [*_of_errors(run), *of_collapse(run), *of_path(run), *_of_robustness(run)]


def print_verdict(console: Console, lines: Iterable[str]) -> None:
    """The sentences under the word, as the other lines of a run are printed."""
    for place, line in enumerate(lines):
        console.print(f"{'' if place else 'verdict':9} {line}", soft_wrap=True, markup=False)


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
    now = f"{state}test error {last['test/error']:.2%} at epoch {last['epoch']:.0f}"
    if zero is None:
        reached = "is not reached yet" if state else "was not reached"
        wrong = f"{last.get('train/error', math.nan):.2%} of the training examples are still decided wrongly"
        return [f"{now}; zero error {reached}: {wrong}"]
    if zero == last["epoch"]:
        return [f"{now}, the zero-error epoch: there is nothing after it in which features could collapse further"]
    before = at_zero_error(run).get("test/error", math.nan)
    if math.isnan(before):
        return [f"{now}; zero error at epoch {zero}"]
    points = 100 * (before - last["test/error"])
    change = f"{abs(points):.2f} points {'less' if points > 0 else 'more'} now" if points else "the same"
    return [f"{now}; {before:.2%} at zero error, epoch {zero}: {change}"]


def at_zero_error(run: SavedRun) -> Record:
    """The record of the zero-error epoch; empty where it was not reached, or is the last."""
    zero = run.zero_error_epoch
    return {} if zero in (None, run.records[-1]["epoch"]) else record_at(run, int(zero or 0)) or {}


def nc1_factor(run: SavedRun) -> float:
    """NC1 on train features at zero error over that at the last evaluated epoch: above 1 it fell.

    nan where one of them is undefined or was not measured, and where nothing comes after zero error.
    """
    before, now = (record.get(NC1, math.nan) for record in (at_zero_error(run), run.records[-1]))
    return before / now if now else math.inf if before > 0 else math.nan


def of_collapse(run: SavedRun) -> list[str]:
    """Whether NC1 fell after zero error, and by which factor; a change that three digits do not show is none."""
    factor = nc1_factor(run)
    if math.isnan(factor):
        return []
    values = f"{at_zero_error(run)[NC1]:.3g} at zero error, {run.records[-1][NC1]:.3g} now"
    if f"{factor:.3g}" == "1":
        return [f"NC1 did not change after zero error: {values}"]
    if factor < 1:
        return [f"NC1 rose after zero error by a factor of {1 / factor if factor else math.inf:.3g}: {values}"]
    return [f"NC1 fell after zero error by a factor of {factor:.3g}: {values}"]


def of_path(run: SavedRun) -> list[str]:
    """Near the central path: L_LS⊥ stays below a tenth of L_NC1 to the end (HPD22 Figure 2), on train features."""
    last = run.records[-1]
    if PERP not in last or math.isnan(last[PERP]):
        return []
    if why := run.doubts.get((int(last["epoch"]), "train")):
        return [f"how near it is to the central path cannot be said: {why}"]
    share = last.get("train/path/perp_share", math.nan)
    rest = "" if math.isnan(share) else f"; {share:.2%} of the MSE loss is off the path at the end"
    if "mse" not in run.cell[2]:
        rest += f" (the path is one of the MSE loss, this run's is {run.cell[2]})"
    near = small_perp_epoch(run)
    if math.isnan(near):
        terms = f"L_LS⊥ is {last[PERP]:.3g}, L_NC1 {last.get('train/mse/loss_nc1', math.nan):.3g}"
        return [f"not near the central path: {terms}; near is below a tenth of it{rest}"]
    return [f"near the central path from epoch {near:.0f} on: L_LS⊥ stays below a tenth of L_NC1{rest}"]


def _of_robustness(run: SavedRun) -> list[str]:
    before, now = (record.get(ROBUSTNESS, math.nan) for record in (at_zero_error(run), run.records[-1]))
    if math.isnan(now):
        return []
    earlier = "" if math.isnan(before) else f", {before:.3g} at zero error"
    return [f"robustness {now:.3g}{earlier}: the least change that decides otherwise, as a share of the input's length"]
