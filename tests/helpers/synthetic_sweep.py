"""Run directories as a sweep leaves them, written without training: plausible journals for tests of what reads them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from ncexp.config import Component
from ncexp.measure.evaluation import ERRORS
from ncexp.record import Record, State, write_json
from ncexp.record.measurements import begin

EPOCHS = [1, 2, 3, 5, 8, 12, 17, 24, 35, 50, 71, 101, 144, 206, 293, 350]
RATES = [0.0005, 0.002, 0.007, 0.025, 0.09]
#: The architectures of HPD22's fifteen cells: dataset → VGG, ResNet, DenseNet.
PAPER = {
    "mnist": ("vgg11", "resnet18", "densenet40"),
    "fashion_mnist": ("vgg11", "resnet18", "densenet250"),
    "cifar10": ("vgg11", "resnet50", "densenet100"),
    "svhn": ("vgg13", "resnet34", "densenet40"),
    "stl10": ("vgg11", "resnet18", "densenet201"),
}
DATASET_TITLES = ["MNIST", "FashionMNIST", "CIFAR10", "SVHN", "STL10"]
MODES = range(1, 10)
#: Entries of a real journal that the curves below do not model.
OTHERS = ["cdnv", "nc1_ratio", "nc1_snr", "etf_error_means", "self_duality_angle", "self_duality_product", "norm_ratio"]
#: Analysis → its callable; the measurement's key follows from it. Loss and error belong to every run.
ANALYSES = {
    "collapse": "NeuralCollapse",
    "decisions": "Decisions",
    "decomposition": "MSEDecompositionAnalysis",
    "central_path": "CentralPathAnalysis",
    "robustness": "RobustnessAnalysis",
}
#: Family and quantity → the analysis that yields it, where it is not that of the family.
YIELDED_BY = {
    "collapse/nearest_class_center_mismatch": "decisions",
    "path/decision_mismatch": "decisions",
    "mse": "decomposition",
    "path": "central_path",
}


def configuration(dataset: str, architecture: str, loss: str, rate: float, seed: int, **options: Any) -> dict[str, Any]:
    """What config.yaml holds."""
    schedule = {"name": "step", "_target_": "ncexp.training.optimizers.step_schedule", "decays": 2, "factor": 0.1}
    sgd = {
        "name": "sgd",
        "_target_": "ncexp.training.optimizers.sgd",
        "lr": rate,
        "momentum": 0.9,
        "schedule": schedule,
    }
    return {
        "dataset": {"name": dataset, "_target_": f"ncexp.datasets.{dataset}", "folder": "data"},
        "architecture": {"name": architecture, "_target_": f"ncexp.architectures.{architecture}", "widths": [16, 32]},
        "loss": {"name": loss, "_target_": f"ncexp.training.losses.{loss}"},
        "optimizer": sgd,
        "analysis": {name: {"name": name, "_target_": _target(name)} for name in ANALYSES if name != "robustness"},
        "seed": seed,
        "epochs": 350,
        "batch_size": 128,
        "precision": "fp32",
        "compile": False,
        "evaluate_at": EPOCHS,
        "keep": {"snapshots": "evaluated", "checkpoints": "last"},
        "device": "auto",
        "outputs": "outputs",
        "rerun": "failed",
        "tracking": {"enabled": True, "uri": None, "experiment": None, **options},
    }


def zero_epoch(rate: float, hardness: float) -> int:
    """The epoch at which the train error of `curves` comes to 0.1 %: 0.9 exp(−6.8 · epoch/scale)."""
    return math.ceil(math.log(900) / 6.8 * _time_scale(rate, hardness))


def curves(rate: float, seed: int, hardness: float, epochs: list[int] = EPOCHS) -> Iterator[Record]:
    """Errors that fall fastest near the rate 0.02, collapse that sets in at zero error, terms that add up to L."""
    noise = random.Random(f"{rate} {seed} {hardness}")
    distance = abs(math.log10(rate / 0.02))
    for epoch in epochs:
        late = max(epoch / _time_scale(rate, hardness), 1e-3)
        train = 0.9 * math.exp(-late * 6.8)
        final = 0.03 * (1 + hardness) * (1 + 0.4 * distance**2)
        wobble = 1 + 0.02 * noise.random()
        test = (final + 0.8 * math.exp(-late * 3)) * wobble
        record: Record = {"epoch": epoch}
        for split, factor, error in (("train", 1.0, train), ("test", 2.5, test)):
            record |= _split(split, factor * wobble / (1 + late) ** 1.5, error)
        terms = {"nc1": 0.3 / (1 + late), "nc23": 0.2 / (1 + late) ** 2.5, "ls_perp": 0.25 / (1 + late) ** 1.8}
        record |= {f"train/mse/loss_{name}": value * wobble for name, value in terms.items()}
        record["train/mse/loss_ls"] = record["train/mse/loss_nc1"] + record["train/mse/loss_nc23"]
        record["train/mse/loss"] = record["train/mse/loss_ls"] + record["train/mse/loss_ls_perp"]
        record["train/path/perp_share"] = record["train/mse/loss_ls_perp"] / record["train/mse/loss"]
        record["train/path/snr_ratio"] = math.nan if epoch < 3 else 1 + 1 / late
        yield record


def with_more(records: list[Record]) -> list[Record]:
    """Also a spectrum that grows as on the central path from zero error on, nearly, and robustness that grows."""
    for record in records:
        late = record["epoch"] / 20
        record["test/robustness/ratio"] = 0.05 + 0.01 * math.log1p(late)
        record["train/path/rank"] = 16.0
        record |= {f"train/path/snr_{j}": (3 + 0.5 * (9 - j)) * (1 + late) ** 0.7 for j in MODES}
    return records


def write_run(
    folder: Path,
    dataset: str = "digits",
    architecture: str = "resnet",
    loss: str = "mse",
    rate: float = 0.02,
    seed: int = 0,
    state: State = State.COMPLETED,
    epochs: list[int] = EPOCHS,
    more: bool = False,
    options: Mapping[str, Any] | None = None,
    **tracking: Any,
) -> Path:
    """One run directory under `folder`; a diverged or failed one stops early and says why. more: `with_more`.

    options: of its configuration, by their path.
    """
    raw = configuration(dataset, architecture, loss, rate, seed, **tracking)
    for name, value in (options or {}).items():
        *groups, last = name.split(".")
        reduce(dict.__getitem__, groups, raw)[last] = value
    words = f"{dataset}{architecture}{loss}{rate}{seed}{options or ''}"
    key = f"{random.Random(words).getrandbits(40):010x}"
    path = folder / f"{dataset}-{architecture}-{loss}_lr{rate:g}_seed{seed}_{key}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(raw))
    sizes = {"num_classes": 10, "num_train": 1400, "num_test": 400, "smallest_class": 140, "largest_class": 140}
    write_json(path / "facts.json", {**sizes, "num_features": 16, "ridge_weight": 5e-4})
    write_json(path / "environment.json", {"host": "a node", "torch": "2"})
    hardness = sum(map(ord, dataset + architecture)) % 7 / 3 + (0.2 if loss == "mse" else 0)
    reached = epochs if state in (State.COMPLETED, State.RUNNING) else epochs[: len(epochs) // 2]
    zero = zero_epoch(rate, hardness)
    evaluated = sorted({*reached, zero}) if zero < reached[-1] else reached  # the zero-error epoch always is
    records = list(curves(rate, seed, hardness, evaluated))
    write_journals(path, with_more(records) if more else records)
    message = {State.DIVERGED: "non-finite loss", State.FAILED: "OutOfMemoryError: 12 GiB"}.get(state, "350 epochs")
    write_status(path, state, message=message)
    return path


def write_journals(path: Path, records: list[Record]) -> None:
    """training.jsonl, clock.jsonl and a journal an analysis; many at once, so without the journals' care for a line.

    The training has every epoch up to the last record's, a minute each.
    """
    trained = range(1, int(records[-1]["epoch"]) + 1)
    rate = yaml.safe_load((path / "config.yaml").read_text())["optimizer"]["lr"]
    fit = [
        {"epoch": e, "fit/loss": 0.5 * math.exp(-e / 50), "fit/error": 0.9 * 0.95**e, "fit/lr": rate} for e in trained
    ]
    _write(path / "training.jsonl", fit)
    _write(path / "clock.jsonl", [{"epoch": e, "timestamp_ms": 1_700_000_000_000 + 60_000 * e} for e in trained])
    for name, names in _by_analysis(records[-1]).items():
        component = _component(name)
        journal = begin(path / "measurements", name, component)
        _write(journal.path, [{key: record[key] for key in ("epoch", *names)} for record in records])


def write_status(path: Path, state: str, message: str = "") -> None:
    """status.json."""
    times = {"started": "2023-11-14T22:13:20+0000", "updated": "2023-11-15T04:03:20+0000"}
    write_json(path / "status.json", {"state": state, **times, "host": "a node", "pid": 1, "message": message})


def write_sweep(folder: Path, datasets: int, architectures: int, rates: list[float], seeds: int = 1) -> list[Path]:
    """datasets × architectures × {mse, cross_entropy} × rates × seeds; the largest rate diverges, one run failed."""
    names = ["mnist", "fashion_mnist", "cifar10", "svhn", "stl10"][:datasets]
    networks = ["vgg11", "resnet18", "densenet40"][:architectures]
    paths = []
    for dataset in names:
        for network in networks:
            for loss in ("mse", "cross_entropy"):
                for rate in rates:
                    for seed in range(seeds):
                        odd = rate == rates[-1] and network == networks[0]
                        state = (State.DIVERGED if loss == "mse" else State.FAILED) if odd else State.COMPLETED
                        paths.append(write_run(folder, dataset, network, loss, rate, seed, state))
    return paths


def write_paper(folder: Path, rates: list[float], seeds: int = 1, epochs: list[int] = EPOCHS) -> None:
    """HPD22's fifteen cells × {mse, cross_entropy} × rates × seeds, with robustness and spectra."""
    for dataset, networks in PAPER.items():
        for network in networks:
            for loss in ("mse", "cross_entropy"):
                for rate in rates:
                    for seed in range(seeds):
                        write_run(folder, dataset, network, loss, rate, seed, epochs=epochs, more=True)


def _time_scale(rate: float, hardness: float) -> float:
    return 12 * (1 + hardness) * (1 + math.log10(rate / 0.02) ** 2)


def _split(split: str, collapse: float, error: float) -> Record:
    """What is the same on train and test, as `collapse` goes to 0."""
    record: Record = {f"{split}/loss": 0.45 * collapse, f"{split}/error": error}
    record[f"{split}/collapse/nc1_trace"] = 3 * collapse**2
    for name in ("equinorm", "equiangularity", "maximal_angle"):
        record[f"{split}/collapse/{name}_means"] = 0.4 * collapse**0.7
        if split == "train":
            record[f"{split}/collapse/{name}_classifier"] = 0.3 * collapse**0.7
    record[f"{split}/collapse/self_duality"] = collapse
    record |= {f"{split}/collapse/{name}": collapse for name in OTHERS}
    record[f"{split}/collapse/nearest_class_center_mismatch"] = 0.5 * min(collapse, 1) ** 2
    record[f"{split}/decisions/least_squares_error"] = error * 0.99
    record[f"{split}/decisions/nearest_class_center_error"] = error * 1.01
    return record


def _by_analysis(record: Record) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name in record:
        _, _, rest = name.partition("/")
        family, _, quantity = rest.partition("/")
        if name != "epoch":
            analysis = YIELDED_BY.get(rest, YIELDED_BY.get(family, family)) if quantity else "errors"
            names.setdefault(analysis, []).append(name)
    return names


def _component(name: str) -> Component:
    if name == "errors":
        return ERRORS
    return Component(group=f"analysis.{name}", name=name, target=_target(name), options={})


def _target(name: str) -> str:
    return f"ncexp.measure.analyses.{ANALYSES.get(name, 'NeuralCollapse')}"


def _write(path: Path, lines: list[Record]) -> None:
    encoded = ({name: _encoded(value) for name, value in line.items()} for line in lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in encoded))


def _encoded(value: float) -> float | str | None:
    return None if math.isnan(value) else str(value) if math.isinf(value) else value
