"""Tables and figures of docs/fashion_mnist.md, of the runs of `ncexp sweep=fashion_mnist_full`.

    python docs/fashion_mnist_full.py summary OUTPUTS    # completed runs into docs/summaries/fashion_mnist_full.json
    python docs/fashion_mnist_full.py page               # tables into the page, and its figures, from that file alone

A run that the file has and OUTPUTS lacks stays there, so the sweep may be trained in parts, on several machines.
Numbers have four digits. Of several seeds a table has the mean and, in brackets, the least and the largest.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
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
#: Rates of the lowest test error at the end, of those at which every seed that was trained reaches zero error.
BEST = {("mlp", "mse"): 0.035355339, ("mlp", "cross_entropy"): 0.035355339}
BEST |= {("convnet", "mse"): 0.035355339, ("convnet", "cross_entropy"): 0.035355339}
#: Of the MLP with the MSE, where one thing is changed at a time; and where it depends on the seed what comes out.
RATE, UNSTABLE = 0.035355339, 0.067860440
#: What all runs share that do not say otherwise.
BASE = {"weight_decay": 5e-5, "decay_of": None, "per_class": 6000, "batch_size": 128, "epochs": 350}
BASE |= {"batch_norm": False}
HIDDEN = {"mlp": [256, 256], "convnet": [256]}
NAMES = {"mlp": "MLP", "convnet": "ConvNet", "mse": "MSE", "cross_entropy": "CE"}
RATIO, DATA_RATIO = "ratio", "data ratio"


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


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["summary", outputs]:
            summarise(Path(outputs))
        case ["page"]:
            write_page()
        case _:
            sys.exit(__doc__)


# The summary


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


# Tables


def number(value: float, scale: float = 1.0) -> str:
    """Three digits, without an exponent where it reads well; – for none."""
    value *= scale
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(power)}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def band(values: Sequence[float], scale: float = 1.0) -> str:
    """Mean, and in brackets the least and the largest of several."""
    if not values or any(math.isnan(value) for value in values):
        return "–"
    mean = number(fmean(values), scale)
    low, high = number(min(values), scale), number(max(values), scale)
    return mean if low == high else f"{mean} ({low} to {high})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rates(runs: list[Run]) -> str:
    """One seed at each rate, of both losses."""
    rows = []
    for loss in ("mse", "cross_entropy"):
        of_loss = sorted((r for r in runs if r.settings["loss"] == loss), key=lambda r: float(r.settings["lr"]))
        for rate in dict.fromkeys(run.settings["lr"] for run in of_loss):
            for run in chosen(of_loss, lr=rate, seed=0):
                errors = [number(run.at("test/error", epoch), 100) for epoch in (run.zero, run.last)]
                rows.append(
                    [
                        NAMES[loss],
                        number(rate),
                        str(run.zero or "–"),
                        number(run.at("train/error", run.last), 100),
                        " → ".join(errors),
                        number(run.at("train/collapse/nc1_trace", run.last)),
                        number(run.at(RATIO, run.last)) if loss == "mse" else "–",
                    ]
                )
    head = ["loss", "rate", "zero error in epoch", "train error at the end %", "test error %, zero error → end"]
    return table([*head, "NC1 at the end", "L_LS⊥/L_NC1 at the end"], rows)


def seeds(runs: list[Run]) -> str:
    """The MSE at the two rates that have seeds, one row a run."""
    rows = []
    for rate in (RATE, UNSTABLE):
        for run in chosen(runs, loss="mse", lr=rate):
            columns = [number(run.at("train/error", run.last), 100)]
            columns += [number(run.at(one, run.last)) for one in ("train/mse/loss", RATIO, DATA_RATIO)]
            decayed = run.at(PERP, run.last) - run.at(f"{PERP}_data", run.last)  # λ/2 ‖W − W_LS‖²
            columns.append(number(decayed / run.at("train/mse/loss", run.last), 100))
            rows.append([number(rate), str(run.settings["seed"]), str(run.zero or "–"), *columns])
    head = ["rate", "seed", "zero error in epoch", "train error %", "L", "L_LS⊥/L_NC1", "data parts"]
    return table([*head, "decay part of L_LS⊥ in L %"], rows)


def best(runs: list[Run]) -> dict[str, list[Run]]:
    """Heading → the seeds at the best rate, of each network and loss that was trained."""
    found = {
        f"{NAMES[network]}, {NAMES[loss]}": chosen(runs, network=network, loss=loss, lr=rate)
        for (network, loss), rate in BEST.items()
    }
    return {heading: seeds for heading, seeds in found.items() if seeds}


#: Row → quantity and its scale.
ACCOUNT = {
    "test error %": ("test/error", 100),
    "robustness, Ave ‖r‖/‖x‖": ("test/robustness/ratio", 1),
    "NC1, train": ("train/collapse/nc1_trace", 1),
    "NC1, test": ("test/collapse/nc1_trace", 1),
    "NC2 equinorm, means, train": ("train/collapse/equinorm_means", 1),
    "NC2 equinorm, means, test": ("test/collapse/equinorm_means", 1),
    "NC2 equinorm, classifier": ("train/collapse/equinorm_classifier", 1),
    "NC2 equiangularity, means, train": ("train/collapse/equiangularity_means", 1),
    "NC2 equiangularity, classifier": ("train/collapse/equiangularity_classifier", 1),
    "ETF error, means, train": ("train/collapse/etf_error_means", 1),
    "ETF error, means, test": ("test/collapse/etf_error_means", 1),
    "ETF error, classifier": ("train/collapse/etf_error_classifier", 1),
    "NC3 self-duality, train": ("train/collapse/self_duality", 1),
    "NC3 self-duality, test": ("test/collapse/self_duality", 1),
    "NC4 mismatch %, train": ("train/collapse/nearest_class_center_mismatch", 100),
    "NC4 mismatch %, test": ("test/collapse/nearest_class_center_mismatch", 100),
}
DECOMPOSITION = {
    "L": ("train/mse/loss", 1),
    "L_NC1": ("train/mse/loss_nc1", 1),
    "of it data": ("train/mse/loss_nc1_data", 1),
    "L_NC2/3": ("train/mse/loss_nc23", 1),
    "L_LS⊥": ("train/mse/loss_ls_perp", 1),
    "of that data": ("train/mse/loss_ls_perp_data", 1),
    "L_LS⊥/L_NC1": (RATIO, 1),
    "the same, data parts": (DATA_RATIO, 1),
    "angle to W_LS, degrees": ("train/path/prediction_angle", 1),
    "distance to W_LS": ("train/path/classifier_distance", 1),
    "ω₁": ("train/path/snr_1", 1),
    "ω₉": ("train/path/snr_9", 1),
    "ω₁/ω₉": ("train/path/snr_ratio", 1),
}


def _arrow(seeds: list[Run], quantity: str, scale: float) -> str:
    """Mean at zero error → mean and band at the end."""
    first = [run.at(quantity, run.zero) for run in seeds]
    return f"{number(fmean(first), scale)} → {band(at_end(seeds, quantity), scale)}"


def at_end(seeds: list[Run], quantity: str) -> list[float]:
    """Of each seed."""
    return [run.at(quantity, run.last) for run in seeds]


def account(runs: list[Run]) -> str:
    """What happens after zero error, seeds at the best rate."""
    cells = best(runs)
    rows = [
        ["zero error in epoch", *(", ".join(str(run.zero or "–") for run in seeds) for seeds in cells.values())],
        [
            "train error at the end %",
            *(band([run.at("train/error", run.last) for run in c], 100) for c in cells.values()),
        ],
        ["gain in test accuracy, points", *(band(gains(c, "test/error", -100)) for c in cells.values())],
        ["gain in robustness", *(band(gains(c, "test/robustness/ratio", 1)) for c in cells.values())],
    ]
    for name, (quantity, scale) in ACCOUNT.items():
        rows.append([name, *(_arrow(seeds, quantity, scale) for seeds in cells.values())])
    return table(["", *cells], rows)


def gains(seeds: list[Run], quantity: str, scale: float) -> list[float]:
    """From the epoch of zero error to the last."""
    return [scale * (run.at(quantity, run.last) - run.at(quantity, run.zero)) for run in seeds]


def decomposition(runs: list[Run]) -> str:
    """The parts of the MSE, and the distance to the central path."""
    cells = {heading: seeds for heading, seeds in best(runs).items() if heading.endswith("MSE")}
    rows = [[name, *(_arrow(c, *what) for c in cells.values())] for name, what in DECOMPOSITION.items()]
    fits = [
        ("closed form: factor of a typical ω", "factor", 1),
        ("closed form: share of the growth explained %", "explained", 100),
    ]
    for name, key, scale in fits:
        rows.append([name, *(band([run.fit.get(key, math.nan) for run in c], scale) for c in cells.values())])
    return table(["", *cells], rows)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, what it comes to in a run, in words, and whether it holds there."""

    sentence: str
    says: Callable[[list[Run]], str]
    holds: Callable[[Run], bool]


def near_from(run: Run, quantity: str) -> int | None:
    """The first epoch of the summary from which the ratio stays below a tenth to the end."""
    above = [epoch for epoch in run.epochs if not run.at(quantity, epoch) < 0.1]
    after = [epoch for epoch in run.epochs if not above or epoch > above[-1]]
    return after[0] if after else None


def fall(run: Run, quantity: str) -> float:
    """By what factor it falls from zero error to the end."""
    return run.at(quantity, run.zero) / run.at(quantity, run.last)


def _epochs(found: Iterable[int | None]) -> str:
    return ", ".join(str(epoch or "never") for epoch in found)


def _falls(*quantities: str) -> Callable[[list[Run]], str]:
    return lambda seeds: " / ".join(f"÷ {band([fall(run, one) for run in seeds])}" for one in quantities)


def _end(quantity: str, scale: float = 1) -> Callable[[list[Run]], str]:
    return lambda seeds: _arrow(seeds, quantity, scale)


NC1, NC23, PERP = "train/mse/loss_nc1", "train/mse/loss_nc23", "train/mse/loss_ls_perp"
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
    cells = {heading: seeds for heading, seeds in best(runs).items() if heading.endswith("MSE")}
    rows = []
    for claim in CLAIMS:
        row = [claim.sentence]
        for seeds in cells.values():
            count = sum(claim.holds(run) for run in seeds)
            verdict = "holds" if count == len(seeds) else "does not" if count == 0 else f"{count} of {len(seeds)} seeds"
            row += [claim.says(seeds), verdict]
        rows.append(row)
    return table(["the paper", *(word for heading in cells for word in (heading, ""))], rows)


#: Column → quantity and its scale, at the end.
OF_RATIO = {
    "train error %": ("train/error", 100),
    "test error %": ("test/error", 100),
    "NC1": ("train/collapse/nc1_trace", 1),
    "L_LS⊥/L_NC1": (RATIO, 1),
    "data parts": (DATA_RATIO, 1),
    "distance to W_LS": ("train/path/classifier_distance", 1),
}
OF_COLLAPSE = {
    "train error %": ("train/error", 100),
    "test error %": ("test/error", 100),
    "NC1": ("train/collapse/nc1_trace", 1),
    "ETF error, means": ("train/collapse/etf_error_means", 1),
    "NC3": ("train/collapse/self_duality", 1),
    "L_LS⊥/L_NC1": (RATIO, 1),
}


def comparison(
    runs: list[Run],
    head: str,
    settings: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, tuple[str, float]] = OF_RATIO,
) -> str:
    """Rows of settings of the MLP with the MSE, at the end; absent ones are left out."""
    rows = []
    for name, changed in settings.items():
        seeds = chosen(runs, **{"loss": "mse", "lr": RATE, **changed})
        if seeds:
            numbers = [band(at_end(seeds, quantity), scale) for quantity, scale in columns.values()]
            rows.append([name, number(decay_time(seeds[0])), *numbers])
    return table([head, "decay time", *columns], rows)


def steps(run: Run) -> int:
    """Of the whole training."""
    return int(run.settings["epochs"]) * math.ceil(CLASSES * run.settings["per_class"] / run.settings["batch_size"])


def decay_time(run: Run) -> float:
    """Steps · lr · weight decay/(1 − momentum) before the first drop of the rate, after a third of the epochs."""
    return steps(run) / 3 * float(run.settings["lr"]) * float(run.settings["weight_decay"]) / 0.1


PER_CLASS = (60, 200, 600, 2000, 6000)
FEATURES = 256


def images(runs: list[Run]) -> str:
    """The ratio against n/P."""
    names = {f"{10 * n:,} ({number(10 * n / FEATURES)})": {"per_class": n} for n in PER_CLASS}
    return comparison(runs, "images n (n/P)", names)


def decays(runs: list[Run]) -> str:
    """The ratio against λ, all images."""
    return comparison(
        runs, "λ, all images", {f"{one:g}": {"weight_decay": one} for one in (5e-6, 5e-5, 1.6e-4, 5e-4)}, OF_COLLAPSE
    )


#: What is changed of the training on 600 images.
INTERVENTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "ten times the decay": {"weight_decay": 5e-4},
    "a hundred times the decay of W alone": {"decay_of": {"classifier.weight": 5e-3}},
    "batches of 20": {"batch_size": 20},
    "ten times as long": {"epochs": 3500},
    "as many steps as with all images": {"epochs": 35000},
}


def interventions(runs: list[Run]) -> str:
    """600 images: what makes the ratio small."""
    return comparison(
        runs, "600 images, changed", {name: {"per_class": 60, **one} for name, one in INTERVENTIONS.items()}
    )


#: On 6,000 images.
NETWORKS: dict[str, dict[str, Any]] = {
    "MLP, 256, 256": {},
    "P = 64: 256, 64": {"hidden": [256, 64]},
    "P = 1024: 256, 1024": {"hidden": [256, 1024]},
    "one layer: 256": {"hidden": [256]},
    "three layers: 256, 256, 256": {"hidden": [256, 256, 256]},
    "256, 256 with batch norm": {"batch_norm": True},
    "ConvNet": {"network": "convnet"},
}


def networks(runs: list[Run]) -> str:
    """The ratio against the network."""
    return comparison(runs, "6,000 images", {name: {"per_class": 600, **one} for name, one in NETWORKS.items()})


def cost(runs: list[Run]) -> str:
    """Minutes a run, by network and images."""
    rows = []
    for network in ("mlp", "convnet"):
        for n in PER_CLASS:
            wanted = {"network": network, "per_class": n, "epochs": BASE["epochs"], "batch_size": BASE["batch_size"]}
            wanted |= {"hidden": HIDDEN[network], "batch_norm": False}
            minutes = [run.minutes for run in runs if all(run.settings[k] == value for k, value in wanted.items())]
            if minutes:
                rows.append([NAMES[network], f"{10 * n:,}", band(minutes), str(len(minutes))])
    return table(["network", "images", "minutes a run", "runs"], rows)


def short(runs: list[Run]) -> str:
    """The page in sentences."""
    seeds = chosen(runs, loss="mse", lr=BEST["mlp", "mse"])
    before = [run.at(RATIO, epoch) for run in seeds for epoch in run.epochs if epoch <= BASE["epochs"] // 3]
    unstable = chosen(runs, loss="mse", lr=UNSTABLE)
    ends = {name: ", ".join(map(number, at_end(unstable, name))) for name in (RATIO, DATA_RATIO)}
    few = {n: at_end(chosen(runs, loss="mse", lr=RATE, per_class=n), RATIO) for n in PER_CLASS[:-1]}
    ratios = ", ".join(f"{number(fmean(values))} with {10 * n:,}" for n, values in few.items() if values)
    changed = {name: chosen(runs, loss="mse", lr=RATE, per_class=60, **one) for name, one in INTERVENTIONS.items()}
    causes = ", ".join(f"{name} {number(fmean(at_end(c, RATIO)))}" for name, c in changed.items() if c)
    etf = [_arrow(seeds, f"train/collapse/etf_error_{of}", 1) for of in ("means", "classifier")]
    gained = [f"{band(gains(cell, 'test/error', -100))} ({name})" for name, cell in best(runs).items()]
    return "\n".join(
        [
            f"- **The headline holds.** L_LS⊥/L_NC1 ends at {band(at_end(seeds, RATIO))}, of the data parts alone at "
            f"{band(at_end(seeds, DATA_RATIO))}. It is small",
            f"  from the first drop of the rate on; before, with the large rate, it is {number(min(before))} to "
            f"{number(max(before))}.",
            "- **At twice the rate it depends on the seed, and on the decay part.** There three seeds end "
            f"at {ends[RATIO]};",
            f"  with the data parts alone at {ends[DATA_RATIO]}.",
            f"- **It needs images.** With the same network it ends at {ratios} images.",
            f"- **What makes it small on 600 images** is more decay, and more steps. Changed: {causes}.",
            f"- **A simplex does not come** at this decay: the ETF error of class means is {etf[0]}, of the classifier "
            f"{etf[1]}, zero error → end.",
            f"- **Test accuracy** gains {', '.join(gained)} points after zero error.",
        ]
    )


BLOCKS: dict[str, Callable[[list[Run]], str]] = {
    "short": short,
    "rates": rates,
    "seeds": seeds,
    "account": account,
    "decomposition": decomposition,
    "claims": claims,
    "images": images,
    "decays": decays,
    "networks": networks,
    "interventions": interventions,
    "cost": cost,
}


def with_blocks(page: str, runs: list[Run]) -> str:
    """The page with every table between <!-- NAME --> and <!-- end --> made anew."""
    for name, make in BLOCKS.items():
        parts = re.split(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- end -->)", page, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"{PAGE.name}: expected <!-- {name} --> once, got {len(parts) - 1}. Write it there.")
        page = make(runs).join(parts)
    return page


def write_page() -> None:
    """Tables and figures of the page."""
    runs = read()
    PAGE.write_text(with_blocks(PAGE.read_text(), runs))
    draw(runs)


# Figures


def draw(runs: list[Run]) -> None:
    """The figures of the page."""
    from matplotlib import pyplot

    from ncexp.report import style

    figures = DOCS / "figures"
    cells = {heading: seeds for heading, seeds in best(runs).items() if heading.endswith("MSE")}
    with pyplot.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        parts = {"loss": "L", "loss_nc1": "L_NC1", "loss_nc23": "L_NC2/3", "loss_ls_perp": "L_LS⊥"}
        figure, axes = pyplot.subplots(
            1, len(cells) + 1, squeeze=False, figsize=(3.4 * (len(cells) + 1), 3.1), layout="constrained"
        )
        axes = axes[0]
        for axis, (heading, seeds) in zip(axes, cells.items(), strict=False):
            for part, label in parts.items():
                _curve(axis, seeds, f"train/mse/{part}", style.COLOURS[part], label)
            _zero(axis, seeds, style.RED)
            axis.set(title=f"{heading}, {IMAGES:,} images", xscale="log", yscale="log", xlabel="epoch")
            axis.legend(fontsize=8, frameon=False)
        for (heading, seeds), colour in zip(cells.items(), (style.COLOURS["mse"], *style.OTHERS), strict=False):
            _curve(axes[-1], seeds, RATIO, colour, f"{heading}")
            _curve(axes[-1], seeds, DATA_RATIO, colour, f"{heading}, data parts", ":")
        axes[-1].axhline(0.1, color=style.NEUTRAL, lw=0.8)
        axes[-1].set(title="L_LS⊥/L_NC1", xscale="log", yscale="log", xlabel="epoch")
        axes[-1].legend(fontsize=8, frameon=False)
        figure.savefig(figures / "fashion_mnist_full.png", dpi=style.DPI)

        figure, axis = pyplot.subplots(figsize=(4.2, 3.1), layout="constrained")
        sizes = [(10 * n, chosen(runs, loss="mse", lr=RATE, per_class=n)) for n in PER_CLASS]
        for quantity, label, line in ((RATIO, "L_LS⊥/L_NC1", "-"), (DATA_RATIO, "data parts", ":")):
            drawn = [(n / FEATURES, [run.at(quantity, run.last) for run in seeds]) for n, seeds in sizes if seeds]
            places = [place for place, _ in drawn]
            axis.plot(
                places, [fmean(v) for _, v in drawn], line, marker="o", ms=4, color=style.COLOURS["mse"], label=label
            )
            axis.vlines(
                places, [min(v) for _, v in drawn], [max(v) for _, v in drawn], color=style.COLOURS["mse"], lw=2
            )
        axis.set(xscale="log", yscale="log", xlabel="n/P, images a feature", ylabel="at the end of training")
        axis.legend(fontsize=8, frameon=False)
        figure.savefig(figures / "fashion_mnist_images.png", dpi=style.DPI)

        panels = {
            "NC1": ("nc1_trace",),
            "NC2, equinorm": ("equinorm_means", "equinorm_classifier"),
            "NC2, equiangularity": ("equiangularity_means", "equiangularity_classifier"),
            "NC2, ETF error": ("etf_error_means", "etf_error_classifier"),
            "NC3, self-duality": ("self_duality",),
            "NC4, mismatch": ("nearest_class_center_mismatch",),
        }
        figure, axes = pyplot.subplots(2, 3, figsize=(10, 5.6), layout="constrained")
        for axis, (title, quantities) in zip(axes.flat, panels.items(), strict=True):
            for heading, seeds in best(runs).items():
                if heading.startswith("MLP"):
                    colour = style.COLOURS[seeds[0].settings["loss"]]
                    for quantity, line in zip(quantities, (style.TRAIN_LINE, style.CLASSIFIER_LINE), strict=False):
                        _curve(
                            axis, seeds, f"train/collapse/{quantity}", colour, heading if line == "-" else None, line
                        )
                    _curve(axis, seeds, f"test/collapse/{quantities[0]}", colour, None, style.TEST_LINE)
                    _zero(axis, seeds, colour)
            axis.set(title=title, xscale="log", yscale="log", xlabel="epoch")
        axes.flat[0].legend(fontsize=8, frameon=False)
        figure.savefig(figures / "fashion_mnist_full_nc.png", dpi=style.DPI)


def _curve(axis: Any, seeds: list[Run], quantity: str, colour: str, label: str | None, line: str = "-") -> None:
    """Mean over the seeds, and the band between the least and the largest, at the epochs that all have."""
    epochs = sorted(set.intersection(*(set(run.epochs) for run in seeds)))
    values = [[run.at(quantity, epoch) for run in seeds] for epoch in epochs]
    axis.plot(epochs, [fmean(of_epoch) for of_epoch in values], line, color=colour, label=label, lw=1.4)
    axis.fill_between(epochs, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.25, lw=0)


def _zero(axis: Any, seeds: list[Run], colour: str) -> None:
    zeros = [run.zero for run in seeds if run.zero is not None]
    if zeros:
        axis.axvline(fmean(zeros), color=colour, lw=0.8, ls="--")


if __name__ == "__main__":
    main(sys.argv[1:])
