"""The runs behind docs/fashion_mnist.md: which they are, and their summary, docs/summaries/fashion_mnist_full.json.

Used by docs/fashion_mnist_full.py.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE, SUMMARY = DOCS / "fashion_mnist.md", DOCS / "summaries" / "fashion_mnist_full.json"
CLASSES, IMAGES, TEST_IMAGES = 10, 60_000, 10_000
#: Key of a run's choices → name in the summary.
SETTINGS = {
    "architecture": "network",
    "architecture.hidden": "hidden",
    "architecture.batch_norm": "batch_norm",
    "loss": "loss",
    "optimizer.lr": "lr",
    "optimizer.weight_decay": "weight_decay",
    "optimizer.decay_of": "decay_of",
    "dataset.examples_per_class": "per_class",
    "batch_size": "batch_size",
    "epochs": "epochs",
    "seed": "seed",
}
COLLAPSE = (
    *("nc1_trace", "equinorm_means", "equinorm_classifier", "equiangularity_means", "equiangularity_classifier"),
    *("maximal_angle_means", "maximal_angle_classifier", "etf_error_means", "etf_error_classifier"),
    *("self_duality", "nearest_class_center_mismatch"),
)
LOSSES = ("loss", "loss_nc1", "loss_nc1_data", "loss_nc23", "loss_ls_perp", "loss_ls_perp_data")
PATH = ("prediction_angle", "classifier_distance", "snr_ratio", *(f"snr_{j}" for j in range(1, CLASSES)))
TRAIN = ("error", *(f"collapse/{one}" for one in COLLAPSE), *(f"mse/{one}" for one in LOSSES))
QUANTITIES = (
    *(f"train/{one}" for one in (*TRAIN, *(f"path/{one}" for one in PATH))),
    *(f"test/{one}" for one in ("error", *(f"collapse/{one}" for one in COLLAPSE if "classifier" not in one))),
    "test/robustness/ratio",
)
#: Rates of the seeds whose training after zero error is described.
BEST = {("mlp", "mse"): 0.035355339, ("mlp", "cross_entropy"): 0.035355339}
BEST |= {("convnet", "mse"): 0.035355339, ("convnet", "cross_entropy"): 0.035355339}
#: Of the MLP with the MSE: where one thing is changed at a time; and the other one with three seeds.
RATE, UNSTABLE = 0.035355339, 0.067860440
#: What all runs share that do not say otherwise.
BASE = {"weight_decay": 5e-5, "decay_of": None, "per_class": 6000, "batch_size": 128, "epochs": 350}
BASE |= {"batch_norm": False}
HIDDEN = {"mlp": [256, 256], "convnet": [256]}
NAMES = {"mlp": "MLP", "convnet": "ConvNet", "mse": "MSE", "cross_entropy": "CE"}
RATIO, DATA_RATIO = "ratio", "data ratio"
NC1, NC23, PERP = "train/mse/loss_nc1", "train/mse/loss_nc23", "train/mse/loss_ls_perp"


@dataclass(frozen=True)
class Run:
    """One run of the summary: training key and settings; zero: the first epoch of at most 0.1 % train error, or None;
    minutes of the training; fit: of the closed form; by quantity its values at `epochs`.
    """

    key: str
    settings: Mapping[str, Any]
    zero: int | None
    minutes: float
    fit: Mapping[str, float]
    epochs: Sequence[int]
    numbers: Mapping[str, Sequence[float | None]]

    def at(self, quantity: str, epoch: int | None) -> float:
        """The value at an epoch, nan where there is none; `ratio` and `data ratio` are of L_LS⊥ to L_NC1."""
        if quantity in (RATIO, DATA_RATIO):
            end = "_data" if quantity == DATA_RATIO else ""
            return self.at(f"train/mse/loss_ls_perp{end}", epoch) / self.at(f"train/mse/loss_nc1{end}", epoch)
        if epoch is None or epoch not in self.epochs or quantity not in self.numbers:
            return math.nan
        value = self.numbers[quantity][self.epochs.index(epoch)]
        return math.nan if value is None else value

    @property
    def last(self) -> int:
        return self.epochs[-1]


def summarise(outputs: Path) -> None:
    """Enter every completed run of OUTPUTS into the summary."""
    import ncexp
    from ncexp.record import State

    known = {one["key"]: one for one in (json.loads(SUMMARY.read_text()) if SUMMARY.exists() else [])}
    for run in ncexp.load(outputs):
        if run.state is State.COMPLETED and run.choices["dataset"] == "fashion_mnist":
            known[run.key] = summary_of(run)
    rows = sorted(known.values(), key=lambda one: json.dumps(one["settings"]))
    SUMMARY.parent.mkdir(exist_ok=True)
    SUMMARY.write_text("[\n" + ",\n".join(_compact(row) for row in rows) + "\n]\n")
    print(f"{len(rows)} runs in {SUMMARY.relative_to(DOCS.parent)}")


def summary_of(run: Any) -> dict[str, Any]:
    """A completed run as the summary has it: of seeds at the best and the unstable rate every epoch, else three."""
    from ncexp.measure import compare_with_path
    from ncexp.record import RunDirectory

    settings = {name: run.choices.get(key) for key, name in SETTINGS.items()}
    epochs = [int(record["epoch"]) for record in run.records]
    kept = epochs if has_curves(settings) else [epochs[0], epochs[-1]]
    kept = sorted({*kept, *([run.zero_error_epoch] if run.zero_error_epoch else [])})
    records = {int(record["epoch"]): record for record in run.records}
    numbers = {
        quantity: [_rounded(records[epoch].get(quantity)) for epoch in kept]
        for quantity in QUANTITIES
        if any(quantity in record for record in run.records)
    }
    path = compare_with_path(run)
    fit = {}
    if path is not None and path.fit is not None:
        fit = {"factor": _rounded(math.exp(path.fit.rms)), "explained": _rounded(path.fit.explained)}
    return {
        "key": run.key,
        "settings": settings,
        "zero": run.zero_error_epoch,
        "minutes": _rounded(_minutes(RunDirectory(run.path).clock.path)),
        "fit": fit,
        "epochs": kept,
        "numbers": numbers,
    }


def has_curves(settings: Mapping[str, Any]) -> bool:
    """Whether a run is one of the seeds at the best rate or the unstable one, of all images."""
    network, loss = settings["network"], settings["loss"]
    rates_ = {BEST[network, loss], *([UNSTABLE] if (network, loss) == ("mlp", "mse") else [])}
    wanted = {**BASE, "hidden": HIDDEN[network]}
    return settings["lr"] in rates_ and all(settings[name] == value for name, value in wanted.items())


def _minutes(clock: Path) -> float:
    """Between the first epoch's end and the last's, and one epoch more; without pauses of more than ten epochs."""
    times = [json.loads(line)["timestamp_ms"] / 60_000 for line in clock.read_text().splitlines()]
    steps = sorted(after - before for before, after in itertools.pairwise(times))
    usual = steps[len(steps) // 2]
    return sum(step for step in steps if step < 10 * usual) + usual


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _compact(row: Mapping[str, Any]) -> str:
    """One run: a line for its settings, and one for each quantity."""
    first = json.dumps({name: value for name, value in row.items() if name != "numbers"})[:-1]
    lines = ",\n".join(f'  "{name}": {json.dumps(values)}' for name, values in row["numbers"].items())
    return f'{first}, "numbers": {{\n{lines}}}}}'


def read() -> list[Run]:
    """The runs of the summary."""
    return [Run(**one) for one in json.loads(SUMMARY.read_text())]


def chosen(runs: Iterable[Run], network: str = "mlp", **settings: Any) -> list[Run]:
    """The runs of these settings, all others as in BASE, by seed."""
    wanted = {**BASE, "network": network, "hidden": HIDDEN[network], **settings}
    found = [run for run in runs if all(run.settings[name] == value for name, value in wanted.items())]
    return sorted(found, key=lambda run: int(run.settings["seed"]))


def best(runs: list[Run]) -> dict[str, list[Run]]:
    """Heading → the seeds that reach zero error, at the rate of BEST, of each network and loss that was trained."""
    found = {}
    for (network, loss), rate in BEST.items():
        seeds = chosen(runs, network=network, loss=loss, lr=rate)
        if reached := [run for run in seeds if run.zero is not None]:
            found[f"{NAMES[network]}, {NAMES[loss]}: {len(reached)} of {len(seeds)} seeds"] = reached
    return found


def at_end(seeds: list[Run], quantity: str) -> list[float]:
    """Of each seed."""
    return [run.at(quantity, run.last) for run in seeds]


def gains(seeds: list[Run], quantity: str, scale: float) -> list[float]:
    """From the epoch of zero error to the last."""
    return [scale * (run.at(quantity, run.last) - run.at(quantity, run.zero)) for run in seeds]


def near_from(run: Run, quantity: str) -> int | None:
    """The first epoch of the summary from which the ratio stays below a tenth to the end."""
    above = [epoch for epoch in run.epochs if not run.at(quantity, epoch) < 0.1]
    after = [epoch for epoch in run.epochs if not above or epoch > above[-1]]
    return after[0] if after else None
