"""What the theory of the central path says in each regime, measured on networks: the table of docs/central_path.md.

    python benchmarks/regimes.py OUTPUTS [--json FILE] [--short] [override ...]

Trains the runs of `ncexp sweep=regimes` that OUTPUTS lacks, without figures and MLflow, with the overrides
(`experiment=regimes/digits`, `batch_size=1400`), and lays every run's spectra along the closed form, from zero error
and from epoch 1 on. Ranges are over the seeds. `ncexp report OUTPUTS preset=han2022` draws the figure of
what it trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from timing import parser, report

from ncexp.collapse import PathFit
from ncexp.config import check
from ncexp.config.composing import compose_mapping
from ncexp.measure import RecordedTraining, compare_with_path
from ncexp.record import RunDirectory, SavedRun, State, read_run, write_json, write_text
from ncexp.training import assemble

EXPERIMENTS = ("regimes/digits", "regimes/fashion_mnist")
REGIMES = ("plain", "on_path", "renormalized")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("outputs", type=Path)
    options.add_argument("overrides", nargs="*")
    arguments = options.parse_args()
    named = [override.partition("=")[2] for override in arguments.overrides if override.startswith("experiment=")]
    overrides = [override for override in arguments.overrides if not override.startswith("experiment=")]
    seeds = (0, 1, 2)
    if arguments.short:
        named, seeds, overrides = ["regimes/digits"], (0,), ["epochs=4", *overrides]
    rows: list[dict[str, object]] = []
    for experiment, regime in product(named or EXPERIMENTS, REGIMES):
        choices = [f"experiment={experiment}", f"regime={regime}", *overrides, f"outputs={arguments.outputs}"]
        runs = [trained(compose_mapping("config", [*choices, f"seed={seed}"])) for seed in seeds]
        rows.append({"data": experiment.partition("/")[2], "regime": regime, **described(runs)})
    report("Theory against training in each regime; ranges over the seeds", rows, arguments.json)


def trained(raw: dict[str, Any]) -> SavedRun:
    """The run of a composed configuration, from its directory if it is there."""
    config = check(raw)
    directory = RunDirectory(config.directory)
    with directory.locked():
        if directory.state() is not State.COMPLETED:
            training = RecordedTraining(config, directory, assemble(config))
            write_text(directory.config, yaml.safe_dump(raw, sort_keys=False))
            write_json(directory.facts, training.facts())
            directory.set_status(State.RUNNING)
            training.resume()
            for _ in training.epochs(lambda: False):
                pass
            directory.set_status(State.COMPLETED, epoch=training.epoch, record=training.finish())
            print(f"{config.directory.name} trained", flush=True)
    return read_run(config.directory)


def described(runs: list[SavedRun]) -> dict[str, object]:
    """The columns of one regime."""
    last = [run.records[-1] for run in runs]
    steps = [max(record.get("fit/perp_share", math.nan) for record in run.training) for run in runs]
    columns: dict[str, object] = {
        "zero error": _range([run.zero_error_epoch for run in runs]),
        "L_LS⊥/L of a step": _range(steps),
        "L_LS⊥/L at last": _range([record["train/path/perp_share"] for record in last]),
        "ω₁/ω₉ at first": _range([run.records[0]["train/path/snr_ratio"] for run in runs]),
        "at last": _range([record["train/path/snr_ratio"] for record in last]),
    }
    for begin, epoch in (("zero error", None), ("epoch 1", 1)):
        found = [compare_with_path(run, epoch) for run in runs]
        fits = [one.fit for one in found if one is not None and one.fit is not None]
        columns |= {f"{name}, from {begin}": _of(fits, value) for name, value in _FITTED.items()}
    return columns


_FITTED: dict[str, Callable[[PathFit], float]] = {
    "fitted τ at last": lambda fit: float(fit.times[-1]),
    "rms %": lambda fit: 100 * fit.rms,
    "rms of ω₁ %": lambda fit: 100 * float(fit.mode_rms[0]),
    "rms of ω₉ %": lambda fit: 100 * float(fit.mode_rms[-1]),
    "growth explained %": lambda fit: 100 * fit.explained,
    "its spread explained %": lambda fit: 100 * fit.explained_spread,
    "growth of F(ω₁) − F(ω₉)": lambda fit: float(fit.conserved_differences[-1, -1] / fit.conserved_differences[0, -1]),
}


def _of(fits: list[PathFit], value: Callable[[PathFit], float]) -> str:
    return _range([value(fit) for fit in fits])


def _range(values: list[Any]) -> str:
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return "–"
    low, high = f"{min(known):.2g}", f"{max(known):.2g}"
    missing = "" if len(known) == len(values) else f" ({len(known)} of {len(values)})"
    return (low if low == high else f"{low} to {high}") + missing


if __name__ == "__main__":
    main()
