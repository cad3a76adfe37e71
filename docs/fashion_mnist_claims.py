"""The paper's claims of docs/fashion_mnist.md, and in how many seeds each holds. Used by docs/fashion_mnist_full.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fashion_mnist_runs import DATA_RATIO, NC1, NC23, PERP, RATIO, Run, at_end, best, gains, near_from
from fashion_mnist_tables import arrow, band, table


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, what it comes to in a run, in words, and whether it holds there."""

    sentence: str
    says: Callable[[list[Run]], str]
    holds: Callable[[Run], bool]


def fall(run: Run, quantity: str) -> float:
    """By what factor it falls from zero error to the end."""
    return run.at(quantity, run.zero) / run.at(quantity, run.last)


def _epochs(found: Iterable[int | None]) -> str:
    return ", ".join(str(epoch or "never") for epoch in found)


def _falls(*quantities: str) -> Callable[[list[Run]], str]:
    return lambda seeds: " / ".join(f"÷ {band([fall(run, one) for run in seeds])}" for one in quantities)


def _end(quantity: str, scale: float = 1) -> Callable[[list[Run]], str]:
    return lambda seeds: arrow(seeds, quantity, scale)


TENTH = 0.1
CLAIMS = (
    Claim(
        "L_LS⊥ is negligible, from an early epoch on: below a tenth of L_NC1, from epoch",
        lambda seeds: f"{_epochs(near_from(run, RATIO) for run in seeds)}; at the end {band(at_end(seeds, RATIO))}",
        lambda run: (near_from(run, RATIO) or math.inf) <= (run.zero or 0),
    ),
    Claim(
        "the same of the data parts, without decay",
        lambda seeds: f"{_epochs(near_from(run, DATA_RATIO) for run in seeds)}; {band(at_end(seeds, DATA_RATIO))}",
        lambda run: (near_from(run, DATA_RATIO) or math.inf) <= (run.zero or 0),
    ),
    Claim(
        "L_NC2/3 falls faster than L_NC1 after zero error, L_NC2/3 / L_NC1",
        _falls(NC23, NC1),
        lambda run: fall(run, NC23) > fall(run, NC1),
    ),
    Claim(
        "L_NC1 is the largest part at the end, L_NC1/L",
        lambda seeds: band([run.at(NC1, run.last) / run.at("train/mse/loss", run.last) for run in seeds]),
        lambda run: run.at(NC1, run.last) > max(run.at(NC23, run.last), run.at(PERP, run.last)),
    ),
    Claim(
        "NC1 falls after zero error, by a tenth at least",
        _falls("train/collapse/nc1_trace"),
        lambda run: fall(run, "train/collapse/nc1_trace") > 1 / 0.9,
    ),
    Claim(
        "NC1 goes to 0: below 0.01 at the end",
        _end("train/collapse/nc1_trace"),
        lambda run: run.at("train/collapse/nc1_trace", run.last) < 0.01,
    ),
    Claim(
        "NC2, class means go to a simplex ETF: the error of their Gram matrix falls below 0.1",
        _end("train/collapse/etf_error_means"),
        lambda run: run.at("train/collapse/etf_error_means", run.last) < TENTH,
    ),
    Claim(
        "NC2, the classifier does",
        _end("train/collapse/etf_error_classifier"),
        lambda run: run.at("train/collapse/etf_error_classifier", run.last) < TENTH,
    ),
    Claim(
        "NC3, class means and classifier become one: below 0.1",
        _end("train/collapse/self_duality"),
        lambda run: run.at("train/collapse/self_duality", run.last) < TENTH,
    ),
    Claim(
        "NC4, the nearest class mean decides as the network does: all but 1 % of the training images",
        _end("train/collapse/nearest_class_center_mismatch", 100),
        lambda run: run.at("train/collapse/nearest_class_center_mismatch", run.last) < 0.01,
    ),
    Claim(
        "the ω_j grow after zero error and become equal: ω₁/ω₉ falls by a tenth at least",
        _end("train/path/snr_ratio"),
        lambda run: fall(run, "train/path/snr_ratio") > 1 / 0.9 and fall(run, "train/path/snr_9") < 1,
    ),
    Claim(
        "the closed form describes their growth: share explained, %",
        lambda seeds: band([run.fit.get("explained", math.nan) for run in seeds], 100),
        lambda run: run.fit.get("explained", math.nan) > 0.9,
    ),
    Claim(
        "test accuracy rises after zero error, points",
        lambda seeds: band(gains(seeds, "test/error", -100)),
        lambda run: run.at("test/error", run.last) < run.at("test/error", run.zero),
    ),
    Claim(
        "robustness rises after zero error",
        lambda seeds: band(gains(seeds, "test/robustness/ratio", 1)),
        lambda run: run.at("test/robustness/ratio", run.last) > run.at("test/robustness/ratio", run.zero),
    ),
)


def claims(runs: list[Run]) -> str:
    """The paper's claims, what they come to, and in how many of the seeds they hold."""
    cells = {heading: seeds for heading, seeds in best(runs).items() if "MSE" in heading}
    rows = []
    for claim in CLAIMS:
        row = [claim.sentence]
        for seeds in cells.values():
            count = sum(claim.holds(run) for run in seeds)
            verdict = "holds" if count == len(seeds) else "does not" if count == 0 else f"{count} of {len(seeds)} seeds"
            row += [claim.says(seeds), verdict]
        rows.append(row)
    return table(["the paper", *(word for heading in cells for word in (heading, ""))], rows)
