"""How often the rule of `ncexp compare --reference` refuses an honest run, and how often it finds a fault.

    python benchmarks/reference_alarms.py RUNS [--wrong RUNS ...] [--repeats 200] [--json FILE] [--short]

RUNS: a folder of real runs of one configuration, forty seeds or more. References are made of 3, 5 and 10 of them,
chosen at random; each of the others is held against it, as it is (a refusal is a false alarm) and with a fault: one
quantity times 100 or 2 at every epoch, an error 50 points higher. --wrong: folders of runs of other settings, held
against the same references. The runs of the table in docs/reference.md are

    ncexp -m architecture=mlp "architecture.hidden=[64,32]" optimizer=sgd_digits epochs=30 "evaluate_at=[1,3,8,16,30]" \
        dataset.examples_per_class=60 "seed=range(0,80)" outputs=RUNS

and of --wrong the same with seed=range(200,215) and optimizer.lr=0.5 (twice the rate), 0.125, or
optimizer.weight_decay=0.004.
"""

from __future__ import annotations

from pathlib import Path

import numpy
from timing import parser, report

from ncexp.record import SavedRun, find_runs, read_run
from ncexp.report.reference import MOST_OUTSIDE, Bands, Number, judge, make_reference, numbers_of

SIZES = (3, 5, 10)
#: Name → quantity, factor, summand.
FAULTS = {
    f"{word} × {factor}": (quantity, float(factor), 0.0)
    for factor in (100, 2)
    for word, quantity in (
        ("NC1", "train/collapse/nc1_trace"),
        ("NC3", "train/collapse/self_duality"),
        ("L_LS⊥", "train/mse/loss_ls_perp"),
    )
} | {f"{split} error + 50 points": (f"{split}/error", 1.0, 0.5) for split in ("train", "test")}


class Alarms:
    """Refused of held runs, by what they are: by a quantity, by the whole, by either."""

    def __init__(self) -> None:
        self.counts: dict[str, numpy.ndarray] = {}

    def hold(self, what: str, deviations: numpy.ndarray, numbers: list[Number], seeds: int) -> None:
        """One run, by its t (M,)."""
        outside, differing = judge(dict(zip(numbers, deviations.tolist(), strict=True)), seeds)
        whole = len(outside) > MOST_OUTSIDE * len(numbers)
        found = numpy.array([1, bool(differing), whole, whole or bool(differing)])
        self.counts[what] = self.counts.get(what, numpy.zeros(4, int)) + found

    def rows(self, seeds: int) -> list[dict[str, object]]:
        """For the report."""
        names = ("a quantity", "the whole", "either")
        return [
            {"seeds": seeds, "run": what, "held": int(held)}
            | {name: f"{refused / held:.1%}" for name, refused in zip(names, counts, strict=True)}
            for what, (held, *counts) in self.counts.items()
        ]


def table(folder: Path, epochs: list[int]) -> tuple[list[SavedRun], list[dict[Number, float]]]:
    """The runs and their numbers."""
    runs = [read_run(path) for path in find_runs([folder])]
    return runs, [numbers_of(run, epochs) for run in runs]


def main() -> None:
    options = parser(__doc__, repeats=200)
    options.add_argument("runs", metavar="RUNS", type=Path)
    options.add_argument("--wrong", metavar="RUNS", nargs="*", type=Path, default=[])
    given = options.parse_args()
    first = read_run(find_runs([given.runs])[0])
    made = make_reference([read_run(path) for path in find_runs([given.runs])[:3]], "for its epochs")
    epochs = [int(epoch) for epoch in made["bands"]["train/loss"]]
    _, found = table(given.runs, epochs)
    numbers = [one for one in found[0] if all(one in other for other in found)]
    values = numpy.array([[of_run[one] for one in numbers] for of_run in found])
    kept = numpy.isfinite(values).all(axis=0)
    numbers, values = [one for one, keep in zip(numbers, kept, strict=True) if keep], values[:, kept]
    wrong = {
        folder.name: numpy.array(
            [[of_run.get(one, numpy.nan) for one in numbers] for of_run in table(folder, epochs)[1]]
        )
        for folder in given.wrong
    }
    random, rows = numpy.random.default_rng(0), list[dict[str, object]]()
    for seeds in SIZES:
        alarms = Alarms()
        for _ in range(3 if given.short else given.repeats):
            order = random.permutation(len(values))
            chosen, fresh = values[order[:seeds]], values[order[seeds:]]
            bands = Bands.of_seeds(numbers, chosen, first.facts)
            for one in fresh:
                alarms.hold("as the reference", bands.deviations(one), numbers, seeds)
            for one in fresh[:10]:
                for what, (quantity, factor, summand) in FAULTS.items():
                    at = numpy.array([name == quantity for name, _ in numbers])
                    changed = numpy.where(at, one * factor + summand, one)
                    alarms.hold(what, bands.deviations(changed), numbers, seeds)
            for name, others in wrong.items():
                for one in others:
                    alarms.hold(name, bands.deviations(one), numbers, seeds)
        rows += alarms.rows(seeds)
    report(f"{len(numbers)} numbers of {len(values)} seeds, {given.repeats} references of each size", rows, given.json)


if __name__ == "__main__":
    main()
