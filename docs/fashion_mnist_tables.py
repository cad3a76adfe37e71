"""The tables of docs/fashion_mnist.md, of the runs of its summary. Used by docs/fashion_mnist_full.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fashion_mnist_runs import (
    BASE,
    BEST,
    CLASSES,
    DATA_RATIO,
    HIDDEN,
    NAMES,
    PERP,
    RATE,
    RATIO,
    UNSTABLE,
    Run,
    at_end,
    best,
    chosen,
    gains,
    near_from,
)


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


def arrow(seeds: list[Run], quantity: str, scale: float) -> str:
    """Mean at zero error → mean and band at the end."""
    first = [run.at(quantity, run.zero) for run in seeds]
    return f"{number(fmean(first), scale)} → {band(at_end(seeds, quantity), scale)}"


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
        rows.append([name, *(arrow(seeds, quantity, scale) for seeds in cells.values())])
    return table(["", *cells], rows)


def decomposition(runs: list[Run]) -> str:
    """The parts of the MSE, and the distance to the central path."""
    cells = {heading: seeds for heading, seeds in best(runs).items() if "MSE" in heading}
    rows = [[name, *(arrow(c, *what) for c in cells.values())] for name, what in DECOMPOSITION.items()]
    fits = [
        ("closed form: factor of a typical ω", "factor", 1),
        ("closed form: share of the growth explained %", "explained", 100),
    ]
    for name, key, scale in fits:
        rows.append([name, *(band([run.fit.get(key, math.nan) for run in c], scale) for c in cells.values())])
    return table(["", *cells], rows)


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
    seeded = [run for rate in (RATE, UNSTABLE) for run in chosen(runs, loss="mse", lr=rate)]
    near = max(near_from(run, DATA_RATIO) or math.inf for run in seeded)
    kept, jumped = ([run for run in seeded if (run.zero is None) == jump] for jump in (False, True))
    data, of_kept, of_jumped = (
        f"{number(min(ends))} to {number(max(ends))}"
        for ends in (at_end(seeded, DATA_RATIO), at_end(kept, RATIO), at_end(jumped, RATIO))
    )
    reached = [run for run in chosen(runs, loss="mse", lr=BEST["mlp", "mse"]) if run.zero is not None]
    few = {n: at_end(chosen(runs, loss="mse", lr=RATE, per_class=n), RATIO) for n in PER_CLASS[:-1]}
    ratios = ", ".join(f"{number(fmean(values))} with {10 * n:,}" for n, values in few.items() if values)
    changed = {name: chosen(runs, loss="mse", lr=RATE, per_class=60, **one) for name, one in INTERVENTIONS.items()}
    causes = ", ".join(f"{name} {number(fmean(at_end(c, RATIO)))}" for name, c in changed.items() if c)
    etf = [arrow(reached, f"train/collapse/etf_error_{of}", 1) for of in ("means", "classifier")]
    gained = [f"{band(gains(cell, 'test/error', -100))} ({name})" for name, cell in best(runs).items()]
    return "\n".join(
        [
            f"- **The headline holds of the data parts.** Their L_LS⊥/L_NC1 ends at {data} in all {len(seeded)} runs,",
            f"  two rates with three seeds each, and stays below a tenth from epoch {near} on at the latest.",
            f"- **With the decay part it holds in {len(kept)} of {len(seeded)} runs**, where it ends at {of_kept}.",
            "  In the others the loss jumps once before the rate drops. That leaves weights of W which only decay",
            f"  moves: it ends at {of_jumped}.",
            f"- **It needs images.** With the same network it ends at {ratios} images.",
            f"- **What makes it small on 600 images** is more decay, and more steps. Changed: {causes}.",
            f"- **A simplex does not come** at this decay: the ETF error of class means is {etf[0]}, of the classifier "
            f"{etf[1]}, zero error → end.",
            f"- **Test accuracy** gains {', '.join(gained)} points after zero error.",
        ]
    )
