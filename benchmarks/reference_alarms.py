"""How often the rule of `ncexp compare --reference` refuses a run that it should not, and how often it finds a fault.

    python benchmarks/reference_alarms.py [--repeats 2000] [RUN ...] [--json FILE] [--short]

Drawn: references of n seeds and one more run, of 400 numbers that depend on one another through a few common causes:
`causes` of them, which carry the share `common` of the variance; normal, or with Student's tails of 5 degrees. An
alarm under no shift is a false one. A fault shifts half of the numbers by as many standard deviations as a column says.

RUN: folders of real runs of one configuration; then also each seed is held against the others.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy
from timing import parser, report

from ncexp.record import find_runs, read_run
from ncexp.report.reference import MOST_OUTSIDE, Scales, make_reference

NUMBERS, SHIFTS = 400, (0, 5, 10, 20)


def draw(random: numpy.random.Generator, runs: int, causes: int, common: float, heavy: bool) -> numpy.ndarray:
    """(runs, NUMBERS) of variance one; each number has one of the causes."""
    assigned = random.integers(causes, size=NUMBERS)
    values = common**0.5 * random.normal(size=(runs, causes))[:, assigned]
    values += (1 - common) ** 0.5 * random.normal(size=(runs, NUMBERS))
    if heavy:  # one divisor a run, so that a run is odd as a whole
        values /= numpy.sqrt(random.chisquare(5, size=(runs, 1)) / 3)
    return values


def alarm_rates(random: numpy.random.Generator, repeats: int, seeds: int, *how: object) -> list[float]:
    """The share of refused runs, by shift."""
    none = numpy.zeros(NUMBERS)
    scales, shifted = Scales(none.astype(bool), none, none), numpy.arange(NUMBERS) % 2
    alarms = numpy.zeros(len(SHIFTS))
    for _ in range(repeats):
        values = draw(random, seeds + 1, *how)  # type: ignore[arg-type]
        low, _, high = scales.interval(values[:-1])
        for place, shift in enumerate(SHIFTS):
            one = values[-1] + shift * shifted
            alarms[place] += ((one < low) | (one > high)).mean() > MOST_OUTSIDE
    return [float(rate) for rate in alarms / repeats]


def main() -> None:
    options = parser(__doc__, repeats=2000)
    options.add_argument("runs", metavar="RUN", nargs="*", type=Path)
    arguments = options.parse_args()
    repeats = 20 if arguments.short else arguments.repeats
    rows: list[dict[str, object]] = []
    for seeds, (causes, common), heavy in itertools.product(
        (3, 5, 10), ((1, 0.0), (20, 0.8), (3, 0.95), (1, 0.99), (1, 1.0)), (False, True)
    ):
        rates = alarm_rates(numpy.random.default_rng(0), repeats, seeds, causes, common, heavy)
        named = {
            "false alarms" if shift == 0 else f"found, {shift} s": rate
            for shift, rate in zip(SHIFTS, rates, strict=True)
        }
        rows.append({"seeds": seeds, "causes": causes, "common": common, "tails": "t5" if heavy else "normal", **named})
    report(f"{repeats} drawn references and runs of {NUMBERS} numbers", rows, arguments.json)
    if arguments.runs:
        content = make_reference([read_run(path) for path in find_runs(arguments.runs)], "left out")
        shares = content["leave_one_out"]
        real: list[dict[str, object]] = [
            {"seed": seed, "outside": share, "refused": share > MOST_OUTSIDE}
            for seed, share in zip(content["seeds"], shares, strict=True)
        ]
        report("each seed against the others", real, None)


if __name__ == "__main__":
    main()
